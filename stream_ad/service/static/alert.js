import { api, badge, byId, duration, element, facts, guarded, live, number, row, seriesPath, when } from "./common.js";
import { draw } from "./charts.js";

const id = byId("view").dataset.alert;
let drawn = null;

function show(alert) {
  byId("severity").replaceWith(Object.assign(badge(alert.severity), { id: "severity" }));
  byId("state").replaceWith(Object.assign(badge(alert.state), { id: "state" }));
  const end = alert.state === "resolved" ? alert.end : null;
  const length = (Date.parse(end ?? alert.updated) - Date.parse(alert.start)) / 1000;
  facts(byId("facts"), [
    ["Since", when(alert.start)],
    ["Likely since", when(alert.likely_start)],
    ["Detected at", when(alert.detected)],
    ["Until", end ? when(end) : "open"],
    ["Lasts", `${duration(length)}${end ? "" : " so far"}`],
    ["Peak", alert.peak_score ? `${number(alert.peak_score)} at ${when(alert.peak)} (threshold 1)` : "–"],
    ["Rule", alert.rule],
    ["Model", alert.model_version || "–"],
  ]);
  byId("channels").tBodies[0].replaceChildren(
    ...alert.channels.map((one) => {
      const share = element("span", `${Math.round(100 * (one.attribution ?? 0))}% `);
      share.append(element("meter", "", { min: 0, max: 1, value: one.attribution ?? 0, "aria-label": `share of ${one.channel}` }));
      return row([
        ["Channel", one.channel],
        ["Share", share, "number"],
        ["Actual", one.actual === null ? "no reading" : number(one.actual), "number"],
        ["Expected", number(one.expected), "number"],
        ["Usual band", `${number(one.lower)} to ${number(one.upper)}`, "number"],
      ]);
    }),
  );
}

async function load() {
  const alert = await api(`/alerts/${encodeURIComponent(id)}`);
  show(alert);
  const path = `${seriesPath(alert.series)}/scores`;
  const [from, to] = [Date.parse(alert.likely_start), Date.parse(alert.end ?? alert.updated)];
  const pattern = alert.series.replace(/[[*?]/g, (sign) => `[${sign}]`);
  const status = (await api("/series", { match: pattern })).series[0];
  const around = Math.max(0.5 * (to - from), 60 * 1000 * (status?.step_s ?? 1));
  const [start, stop] = [new Date(from - around).toISOString(), new Date(to + around + 1).toISOString()];
  const scores = await api(path, { start, stop, max_points: 2000 });
  const names = alert.channels.slice(0, 4).map((one) => one.channel);
  const detailed = names.length && scores.slots <= 3000;
  const details = detailed ? await api(path, { start, stop, channel: names, limit: 3000 }) : null;
  drawn = { scores, details, names, alerts: [alert], range: [start, stop] };
  await draw(byId("chart"), drawn);
  byId("chart").dataset.drawn = "1";
  const query = new URLSearchParams({ from: start, to: stop });
  byId("where").href = `${seriesPath(alert.series)}?${query}`;
  byId("note").textContent = details ? "Dotted: expected value; shaded: usual band." : "Only the score.";
}

const reload = () => guarded(load);
addEventListener("themed", () => drawn && draw(byId("chart"), drawn));
await reload();
live({ alert: (one) => one.id === id && reload(), reset: reload });
