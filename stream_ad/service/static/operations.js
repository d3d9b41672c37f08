import { api, byId, debounced, facts, guarded, live, number, row } from "./common.js";

async function load() {
  const state = await api("/state");
  facts(byId("facts"), [
    ["Version", state.version],
    ["Scorer", state.scorer],
    ["Store", state.store],
    ["Series", `${state.scoring} of ${state.series} scoring`],
    ["Open alerts", number(state.open_alerts)],
  ]);
  byId("embedded").hidden = state.lag !== null;
  byId("lag").tBodies[0].replaceChildren(
    ...(state.lag ?? []).map((one) =>
      row([
        ["Topic", one.topic],
        ["Partition", number(one.partition), "number"],
        ["Committed", one.committed === null ? "–" : String(one.committed), "number"],
        ["End", String(one.end), "number"],
        ["Lag", String(one.lag), "number"],
      ]),
    ),
  );
  byId("profiles").tBodies[0].replaceChildren(
    ...Object.entries(state.profiles)
      .sort((a, b) => b[1] - a[1])
      .slice(0, 200)
      .map(([version, count]) => row([["Profile", version || "none yet"], ["Series", number(count), "number"]])),
  );
}

const reload = () => guarded(load);
await reload();
live({ series: debounced(reload, 1000), reset: reload });
setInterval(reload, 10000);
