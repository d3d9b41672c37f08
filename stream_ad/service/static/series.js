import { api, badge, byId, debounced, drivers, element, guarded, live, number, row, seriesPath, when } from "./common.js";
import { draw } from "./charts.js";

const name = byId("view").dataset.series;
const path = `${seriesPath(name)}/scores`;
const POINTS = 2000;
const DETAILED = 3000; // slots; longer periods show only the score
const SHOWN = 4;

let span = 3600; // seconds before the newest score; null = all
let range = null; // [from, to] in ms; replaces the span
let status = null;
let picked = null; // channels to show; null = the first ones
let drawn = [];
let newest = 0;

const iso = (ms) => new Date(ms).toISOString();
const field = (ms) => iso(ms).slice(0, 19);

function period() {
  if (range) return { start: iso(range[0]), stop: iso(range[1]) };
  if (!status?.last_score) return {};
  const last = Date.parse(status.last_score) + 1;
  const first = Date.parse(status.first_score);
  return { start: span ? iso(Math.max(first, last - span * 1000)) : iso(first), stop: iso(last) };
}

function showStatus() {
  if (!status) return;
  byId("state").replaceWith(Object.assign(badge(status.state), { id: "state" }));
  byId("detail").textContent = status.detail;
  if (byId("channels").hidden && status.channels.length > 1) showChannels();
}

function showChannels() {
  const place = byId("channels").lastElementChild;
  byId("channels").hidden = false;
  const chosen = new Set(picked ?? status.channels.slice(0, SHOWN));
  for (const channel of status.channels) {
    const box = element("input", "", { type: "checkbox", value: channel });
    box.checked = chosen.has(channel);
    const label = element("label");
    label.append(box, ` ${channel}`);
    place.append(label);
  }
  place.addEventListener("change", () => {
    picked = [...place.querySelectorAll("input:checked")].map((box) => box.value);
    byId("picked").textContent = picked.join(", ");
    guarded(show);
  });
  byId("picked").textContent = [...chosen].join(", ");
}

function showAlerts(alerts) {
  byId("alerts").tBodies[0].replaceChildren(
    ...alerts.map((one) =>
      row([
        ["Start", element("a", when(one.start), { href: `/alerts/${one.id}` }), "time"],
        ["End", one.state === "resolved" ? when(one.end) : "open", "time"],
        ["Severity", badge(one.severity)],
        ["Peak", number(one.peak_score), "number"],
        ["Driven by", drivers(one)],
      ]),
    ),
  );
  byId("empty").hidden = alerts.length > 0;
}

async function show() {
  const request = ++newest;
  const { start, stop } = period();
  const [scores, found] = await Promise.all([
    api(path, { start, stop, max_points: POINTS }),
    api("/alerts", { series: name, start, stop, limit: 200 }),
  ]);
  const names = picked ?? status?.channels.slice(0, SHOWN) ?? [];
  let details = null;
  if (scores.slots && scores.slots <= DETAILED && names.length) {
    details = await api(path, { start, stop, channel: names, limit: DETAILED });
  }
  if (request !== newest) return; // superseded by another period
  drawn = { scores, details, names, alerts: found.alerts, range: start ? [start, stop] : undefined };
  byId("chart").hidden = !scores.slots;
  if (scores.slots) await paint();
  showAlerts(found.alerts);
  const thinned = scores.thinned ? `${scores.time.length} of ${scores.slots} slots, every peak kept` : `${scores.slots} slots`;
  byId("note").textContent = scores.slots
    ? `${thinned}${details || !names.length ? "" : `; channels are shown for at most ${DETAILED} slots: drag over the chart to zoom in, double-click to zoom out`}`
    : status?.last_score ? "No scores in this period." : "No scores yet.";
  if (start) {
    byId("from").value = field(Date.parse(start));
    byId("to").value = field(Date.parse(stop));
  }
}

async function paint() {
  const place = byId("chart");
  const before = place.dataset.drawn;
  await draw(place, drawn);
  place.dataset.drawn = String(Number(before ?? 0) + 1);
  if (before) return;
  place.on("plotly_relayout", (change) => {
    const from = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
    const to = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
    if (from && to) choose(null, [Date.parse(`${from.replace(" ", "T")}Z`.replace("ZZ", "Z")), Date.parse(`${to.replace(" ", "T")}Z`.replace("ZZ", "Z"))]);
  });
  place.on("plotly_doubleclick", () => {
    choose(span ?? 3600, null);
    return false;
  });
}

const showSoon = debounced(() => guarded(show), 150);

function choose(newSpan, newRange) {
  if (!newRange) span = newSpan;
  range = newRange;
  byId("follow").checked = !newRange;
  for (const button of document.querySelectorAll("[data-span]")) {
    button.setAttribute("aria-pressed", String(!newRange && button.dataset.span === String(span ?? "")));
  }
  const query = new URLSearchParams(newRange ? { from: iso(newRange[0]), to: iso(newRange[1]) } : { span: span ?? "all" });
  history.replaceState(null, "", `${location.pathname}?${query}`);
  showSoon();
}

async function load() {
  const pattern = name.replace(/[[*?]/g, (sign) => `[${sign}]`);
  status = (await api("/series", { match: pattern })).series[0] ?? status;
  showStatus();
  await show();
}

for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => choose(button.dataset.span ? Number(button.dataset.span) : null, null));
}
byId("range").addEventListener("submit", (event) => {
  event.preventDefault();
  const [from, to] = [byId("from").value, byId("to").value].map((text) => Date.parse(`${text}Z`));
  if (Number.isNaN(from) || Number.isNaN(to) || from >= to) {
    byId("note").textContent = "Expected a start before the end.";
    return;
  }
  choose(null, [from, to]);
});
byId("follow").addEventListener("change", (event) => {
  if (event.target.checked) choose(span ?? 3600, null);
});
addEventListener("themed", () => drawn.scores?.slots && draw(byId("chart"), drawn));

const given = new URLSearchParams(location.search);
if (given.has("from") && given.has("to")) range = [Date.parse(given.get("from")), Date.parse(given.get("to"))];
else if (given.has("span")) span = given.get("span") === "all" ? null : Number(given.get("span")) || 3600;
byId("follow").checked = !range;
for (const button of document.querySelectorAll("[data-span]")) {
  button.setAttribute("aria-pressed", String(!range && button.dataset.span === String(span ?? "")));
}
await guarded(load);
live({
  series: (list) => {
    const own = list.find((one) => one.series === name);
    if (!own) return;
    status = own;
    showStatus();
    if (byId("follow").checked && !range) showSoon();
  },
  alert: (one) => one.series === name && showSoon(),
  reset: () => guarded(load),
});
