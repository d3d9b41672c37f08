import { api, badge, byId, debounced, duration, element, guarded, live, number, row, seriesPath, when } from "./common.js";

const SHOWN = 500;
const known = new Map();
const rows = new Map();

function cells(one) {
  const link = element("a", one.series, { href: seriesPath(one.series) });
  const waitSeconds = one.ready_in_slots * (one.step_s ?? 1);
  const state = document.createElement("span");
  state.append(badge(one.state));
  if (one.state === "filling") state.append(` first score in about ${duration(waitSeconds)}`);
  return row([
    ["Series", link],
    ["State", state],
    ["Memory", `${one.memory_slots}/${one.memory_capacity}`, "number"],
    ["Channels", number(one.channels.length), "number"],
    ["Last score", when(one.last_score), "time"],
    ["Open alerts", number(one.open_alerts), one.open_alerts ? "number bad" : "number"],
  ]);
}

function filtered() {
  const text = byId("filter").value.toLowerCase();
  const alerting = byId("alerting").checked;
  return [...known.values()]
    .filter((one) => one.series.toLowerCase().includes(text) && (!alerting || one.open_alerts))
    .sort((a, b) => b.open_alerts - a.open_alerts || (a.series < b.series ? -1 : 1));
}

// Rows keep their elements, so that focus and selection stay.
function show() {
  const list = filtered();
  const body = byId("series").tBodies[0];
  const keep = new Set();
  list.slice(0, SHOWN).forEach((one, index) => {
    keep.add(one.series);
    if (!rows.has(one.series)) rows.set(one.series, cells(one));
    if (body.rows[index] !== rows.get(one.series)) body.insertBefore(rows.get(one.series), body.rows[index] ?? null);
  });
  for (const [name, node] of rows) {
    if (keep.has(name)) continue;
    node.remove();
    rows.delete(name);
  }
  byId("count").textContent = list.length === known.size ? `${known.size}` : `${list.length} of ${known.size}`;
  byId("none").hidden = known.size > 0;
  byId("more").hidden = list.length <= SHOWN;
  byId("more").textContent = `${list.length - SHOWN} more: narrow the filter to see them.`;
}

function update(list) {
  for (const one of list) {
    known.set(one.series, one);
    const old = rows.get(one.series);
    if (!old) continue;
    const fresh = cells(one);
    [...old.cells].forEach((cell, index) => {
      if (cell.textContent === fresh.cells[0].textContent) {
        fresh.deleteCell(0);
        return;
      }
      cell.replaceWith(fresh.cells[0]);
      old.cells[index].classList.add("fresh");
    });
  }
  show();
}

async function load() {
  let after;
  do {
    const page = await api("/series", { after, limit: 10000 });
    page.series.forEach((one) => known.set(one.series, one));
    after = page.next;
  } while (after);
  rows.forEach((node) => node.remove());
  rows.clear();
  show();
}

const reload = () => guarded(load);
byId("filter").addEventListener("input", debounced(show, 100));
byId("alerting").addEventListener("change", show);
await reload();
live({ series: update, reset: reload });
