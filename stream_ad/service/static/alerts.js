import { api, badge, byId, drivers, element, guarded, live, number, row, seriesPath, soon, when } from "./common.js";

const body = byId("alerts").tBodies[0];
let next = null;

function cells(one) {
  const made = row([
    ["Start", element("a", when(one.start), { href: `/alerts/${one.id}` }), "time"],
    ["Series", element("a", one.series, { href: seriesPath(one.series) })],
    ["State", badge(one.state)],
    ["Severity", badge(one.severity)],
    ["Peak", number(one.peak_score), "number"],
    ["Driven by", drivers(one)],
  ]);
  made.dataset.id = one.id;
  return made;
}

const wanted = () => ({
  series: byId("series").value.trim(),
  severity: byId("severity").value,
  open: byId("open").checked || undefined,
});

async function load(before) {
  const page = await api("/alerts", { ...wanted(), before, limit: 100 });
  if (!before) body.replaceChildren();
  body.append(...page.alerts.map(cells));
  next = page.next;
  byId("older").hidden = !next;
  byId("calm").hidden = body.rows.length > 0;
}

function came(one) {
  const { series, severity, open } = wanted();
  const old = [...body.rows].find((made) => made.dataset.id === one.id);
  const hidden = one.state === "withdrawn" || (series && series !== one.series) || (severity && severity !== one.severity) || (open && one.state === "resolved");
  if (hidden) {
    old?.remove();
  } else {
    const fresh = cells(one);
    fresh.classList.add("fresh");
    if (old) old.replaceWith(fresh);
    else body.prepend(fresh);
  }
  byId("calm").hidden = body.rows.length > 0;
}

const again = () => guarded(() => load());
byId("older").addEventListener("click", () => guarded(() => load(next)));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", soon(again));
await again();
live({ alert: came, reset: again });
