// Shared by all pages: API requests, times and numbers, errors, live events.

export const byId = (id) => document.getElementById(id);

export async function api(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") query.append(name, one);
    }
  }
  const response = await fetch(`/api/v1${path}${query.size ? `?${query}` : ""}`);
  if (response.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw new Error("signed out");
  }
  const body = await response.json();
  if (!response.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" — "));
  return body;
}

export async function guarded(work) {
  const place = byId("problem");
  try {
    await work();
    place.hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    place.textContent = error.message;
    place.hidden = false;
  }
}

export const when = (iso) => (iso ? iso.replace("T", " ").replace(/(\.\d{3})\d*/, "$1").replace("Z", "") : "–");

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export function duration(seconds) {
  for (const [span, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= span) return `${number(seconds / span)} ${name}`;
  }
  return `${number(seconds)} s`;
}

export const seriesPath = (name) => `/series/${name.split("/").map(encodeURIComponent).join("/")}`;

export function element(tag, content = "", attributes = {}) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (content instanceof Node) node.append(content);
  else node.textContent = content;
  return node;
}

// cells: [label, content, class]. On narrow screens CSS shows the label next to its cell.
export function row(cells) {
  const node = document.createElement("tr");
  for (const [label, content, kind = ""] of cells) {
    const cell = element("td", "", { "data-label": label, class: kind });
    cell.append(content instanceof Node ? content : element("span", content));
    node.append(cell);
  }
  return node;
}

export const badge = (text) => element("span", text, { class: `badge ${text}` });

export function facts(place, pairs) {
  place.replaceChildren(
    ...pairs.map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(element("dt", name), element("dd", value));
      return pair;
    }),
  );
}

export function drivers(alert) {
  return alert.channels.slice(0, 3).map((one) => `${one.channel} ${Math.round(100 * (one.attribution ?? 0))}%`).join(", ") || "–";
}

// handlers: {alert, series, reset}. The browser reconnects by itself; the server resends missed events or sends `reset`.
export function live(handlers) {
  const shown = byId("live");
  const show = (text, kind) => {
    shown.hidden = false;
    shown.textContent = text;
    shown.className = `live ${kind}`;
  };
  const source = new EventSource("/api/v1/stream");
  let lost = false;
  source.addEventListener("hello", () => {
    show("live", "good");
    if (lost) handlers.reset?.();
    lost = false;
  });
  source.addEventListener("error", () => {
    lost = true;
    show(source.readyState === EventSource.CLOSED ? "not live" : "connecting", "warn");
  });
  for (const kind of ["alert", "series", "reset"]) {
    source.addEventListener(kind, (event) => handlers[kind]?.(JSON.parse(event.data)));
  }
  addEventListener("pagehide", () => source.close());
}

export function debounced(work, wait = 250) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}

const root = document.documentElement;
try {
  const stored = localStorage.getItem("theme");
  if (stored) root.dataset.theme = stored;
} catch { /* no storage: follow the system */ }

export const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

byId("theme")?.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch { /* no storage: until the page is left */ }
  dispatchEvent(new Event("themed"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themed")));
