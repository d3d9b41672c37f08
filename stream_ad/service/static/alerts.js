import { api, badge, byId, debounced, drivers, element, guarded, live, number, row, seriesPath, when } from "./common.js";

const body = byId("alerts").tBodies[0];
let next = null;

function cells(one) {
  const node = row([
    ["Start", element("a", when(one.start), { href: `/alerts/${one.id}` }), "time"],
    ["Series", element("a", one.series, { href: seriesPath(one.series) })],
    ["State", badge(one.state)],
    ["Severity", badge(one.severity)],
    ["Peak", number(one.peak_score), "number"],
    ["Driven by", drivers(one)],
  ]);
  node.dataset.id = one.id;
  return node;
}

const filters = () => ({
  series: byId("series").value.trim(),
  severity: byId("severity").value,
  open: byId("open").checked || undefined,
});

async function load(before) {
  const page = await api("/alerts", { ...filters(), before, limit: 100 });
  if (!before) body.replaceChildren();
  body.append(...page.alerts.map(cells));
  next = page.next;
  byId("older").hidden = !next;
  byId("empty").hidden = body.rows.length > 0;
}

function update(one) {
  const { series, severity, open } = filters();
  const old = [...body.rows].find((node) => node.dataset.id === one.id);
  const hidden = one.state === "withdrawn" || (series && series !== one.series) || (severity && severity !== one.severity) || (open && one.state === "resolved");
  if (hidden) {
    old?.remove();
  } else {
    const fresh = cells(one);
    fresh.classList.add("fresh");
    if (old) old.replaceWith(fresh);
    else body.prepend(fresh);
  }
  byId("empty").hidden = body.rows.length > 0;
}

const reload = () => guarded(() => load());
byId("older").addEventListener("click", () => guarded(() => load(next)));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", debounced(reload));
await reload();
live({ alert: update, reset: reload });
