// Score and channels on one time axis. Plotly is a global, loaded by a separate script.

import { dark } from "./common.js";

const COLOURS = ["#2f80c2", "#c2652f", "#2f9e77", "#8a5cc2"];

function theme() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of("--ink"), quiet: of("--quiet"), line: of("--line"), paper: of("--paper"), bad: of("--bad"), warn: of("--warn"), score: dark() ? "#7cc0ff" : "#0b5cad" };
}

function axis(colours, more = {}) {
  return { gridcolor: colours.line, linecolor: colours.line, zerolinecolor: colours.line, tickfont: { color: colours.quiet }, automargin: true, ...more };
}

function heading(text, top, colours) {
  return { text: text.replace(/[<&]/g, (sign) => ({ "<": "&lt;", "&": "&amp;" })[sign]), xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false, font: { color: colours.ink, size: 12 } };
}

function bands(alerts, colours) {
  return alerts.map((one) => ({
    type: "rect", xref: "x", yref: "paper", x0: one.start, x1: one.end ?? one.updated, y0: 0, y1: 1, layer: "below",
    line: { width: 1, color: one.severity === "warning" ? colours.warn : colours.bad }, opacity: 0.22,
    fillcolor: one.severity === "warning" ? colours.warn : colours.bad,
  }));
}

function channelTraces(times, name, one, place) {
  const colour = COLOURS[place % COLOURS.length];
  const shared = { x: times, yaxis: `y${place + 2}`, xaxis: "x", type: "scatter", mode: "lines", showlegend: false };
  return [
    { ...shared, y: one.lower, line: { width: 0 }, hoverinfo: "skip" },
    { ...shared, y: one.upper, line: { width: 0 }, fill: "tonexty", fillcolor: `${colour}33`, hoverinfo: "skip" },
    { ...shared, y: one.expected, line: { color: colour, width: 1, dash: "dot" }, name: `${name} expected` },
    { ...shared, y: one.value, line: { color: colour, width: 1.6 }, connectgaps: false, name: `${name} actual` },
  ];
}

// scores: {time, score}; details: {time, channels} or null; names: channels to show; alerts: alert documents.
export function draw(place, { scores, details, names, alerts, range }) {
  const colours = theme();
  const shown = details ? names.filter((name) => details.channels?.[name]) : [];
  const parts = shown.length + 1;
  const gap = 0.075;
  const size = (1 - gap * (parts - 1)) / (parts + 0.4);
  const first = size * 1.4;
  const layout = {
    height: Math.max(320, 200 + 130 * shown.length), margin: { l: 55, r: 15, t: 28, b: 40 },
    paper_bgcolor: colours.paper, plot_bgcolor: colours.paper, font: { color: colours.ink, family: "system-ui, sans-serif", size: 12 },
    hovermode: "x unified", hoverlabel: { bgcolor: colours.paper, font: { color: colours.ink } }, dragmode: "zoom", uirevision: "kept",
    xaxis: axis(colours, { type: "date", range, anchor: parts > 1 ? `y${parts}` : "y", hoverformat: "%Y-%m-%d %H:%M:%S.%3f" }),
    yaxis: axis(colours, { domain: [1 - first, 1], rangemode: "tozero", fixedrange: true }),
    annotations: [heading("score", 1, colours)],
    shapes: [
      ...bands(alerts, colours),
      { type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colours.bad, width: 1.5, dash: "dash" } },
    ],
  };
  const traces = [
    { x: scores.time, y: scores.score, type: "scatter", mode: "lines", line: { color: colours.score, width: 1.4 }, name: "score", showlegend: false },
  ];
  shown.forEach((name, index) => {
    const top = 1 - first - gap - index * (size + gap);
    layout[`yaxis${index + 2}`] = axis(colours, { domain: [Math.max(0, top - size), top], fixedrange: true });
    layout.annotations.push(heading(name, top, colours));
    traces.push(...channelTraces(details.time, name, details.channels[name], index));
  });
  return Plotly.react(place, traces, layout, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
}
