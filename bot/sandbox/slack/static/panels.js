// The Estate (the world's truth, as the demo sees it) and the Traffic (every exchange between Slack and the bot).

import { node } from "/static/mrkdwn.js";

// A cell may hold several values, joined by ", ": a Tentacle with two records that differ.
const parts = (value) => String(value || "").split(", ").filter(Boolean);
const short = (value) => parts(value).map((thumbprint) => thumbprint.slice(0, 8)).join(" ") || "—";
const worst = (health) => ["bad", "warn", "unknown", "good"].find((kind) => parts(health).some((word) => (HEALTH[word] || "unknown") === kind)) || "unknown";
const HEALTH = { Healthy: "good", HealthyWithWarnings: "warn", Unhealthy: "bad", Unavailable: "bad" };
const before = new Map();

function thumbprint(row, witness) {
  const value = row[witness];
  const key = `${row.name}:${witness}`;
  const changed = before.has(key) && before.get(key) !== value;
  before.set(key, value);
  const others = ["configured", "served", "recorded"].filter((name) => name !== witness).map((name) => row[name]).filter(Boolean);
  const odd = value && others.length && others.every((other) => other !== value);
  return node("td", {}, node("code", { class: `${changed ? "changed" : ""}${odd ? " odd" : ""}${value ? "" : " none"}`, title: value || "not seen" }, short(value)));
}

/** Draw the estate's rows. */
export function estate(rows) {
  const consistent = rows.filter((row) => row.consistent).length;
  const head = ["Tentacle", "Configured", "Served", "Recorded", "Health"];
  const body = rows.map((row) => {
    const health = String(row.health ?? "Unknown");
    return node("tr", { class: row.consistent ? "" : "inconsistent", "data-name": row.name },
      node("th", { scope: "row" }, node("span", { class: `mark ${row.consistent ? "good" : "bad"}`, role: "img", "aria-label": row.consistent ? "witnesses agree" : "witnesses disagree", title: row.consistent ? "witnesses agree" : "witnesses disagree" }),
        node("span", { class: "estate-name" }, row.name, node("small", {}, row.style || ""))),
      thumbprint(row, "configured"), thumbprint(row, "served"), thumbprint(row, "recorded"),
      node("td", {}, node("span", { class: `health ${worst(health)}` }, health.replaceAll("HealthyWithWarnings", "Warnings"))));
  });
  return node("div", { class: "estate" },
    node("p", { class: "muted" }, `${rows.length} Tentacles · ${consistent} consistent. What is true on the hosts and in Octopus, live; the bot sees it only through its own eyes.`),
    node("table", {}, node("thead", {}, node("tr", {}, ...head.map((name) => node("th", { scope: "col" }, name)))), node("tbody", {}, ...body)));
}

function json(value) {
  return node("pre", { class: "json", tabindex: 0 }, JSON.stringify(value, null, 2));
}

const summary = (call) => {
  const { payload } = call;
  if (call.method === "slash_commands") return `${payload.command} ${payload.text}`;
  if (call.method === "interactive") return `${payload.type}: ${(payload.actions || []).map((action) => action.action_id).join(", ")}`;
  if (call.method === "events_api") return payload.event?.type || "";
  return typeof payload.text === "string" ? payload.text : "";
};

/** Draw the calls, the newest first; `rows` keeps what is drawn, by the number of the call. */
export function traffic(place, data, wanted, rows) {
  const found = data.calls.filter((call) => !wanted || JSON.stringify([call.method, call.payload]).toLowerCase().includes(wanted)).reverse();
  const numbers = new Set(data.calls.map((call) => call.number));
  for (const number of rows.keys()) if (!numbers.has(number)) rows.delete(number);
  // What is there already stays where it is: one may be about to click on it.
  const list = place.querySelector("ol") || node("ol", { class: "calls" });
  const wantedRows = found.map((call) => rowOf(call, rows));
  const shown = new Set(wantedRows);
  for (const row of [...list.children]) if (!shown.has(row)) row.remove();
  wantedRows.forEach((row, index) => { if (list.children[index] !== row) list.insertBefore(row, list.children[index] || null); });
  const broken = data.violations.length
    ? node("div", { class: "violations" }, node("strong", {}, `${data.violations.length} breaks of Slack's rules`), ...data.violations.slice(-8).map((text) => node("div", {}, text)))
    : node("p", { class: "muted" }, "→ bot to Slack, ← Slack to bot. No payload has broken Slack's documented rules.");
  if (list.isConnected) list.previousSibling.replaceWith(broken);
  else place.replaceChildren(broken, list);
}

function rowOf(call, rows) {
  const print = JSON.stringify([call.status, call.milliseconds, call.response]);
  const known = rows.get(call.number);
  if (known?.print === print) return known.row;
  const failed = call.status !== 200 || call.response.ok === false;
  const outcome = call.status === 0 ? call.response.error : call.response.error || (call.direction === "slack" ? "ack" : "ok");
  const details = node("details", { class: `call ${call.direction} ${failed ? "failed" : ""}`, open: Boolean(known?.row.firstChild.open) },
    node("summary", {},
      node("span", { class: "arrow", role: "img", "aria-label": call.direction === "bot" ? "bot to Slack" : "Slack to bot" }, call.direction === "bot" ? "→" : "←"),
      node("span", { class: "call-method" }, call.method),
      node("span", { class: "call-summary" }, summary(call)),
      node("span", { class: "call-outcome" }, `${outcome} · ${call.milliseconds} ms`)));
  const fill = () => details.childElementCount === 1 && details.append(node("h4", {}, "Sent"), json(call.payload), node("h4", {}, "Answered"), json(call.response));
  if (details.open) fill();
  details.addEventListener("toggle", fill);
  const row = node("li", {}, details);
  rows.set(call.number, { print, row });
  return row;
}
