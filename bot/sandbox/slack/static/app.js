// The page: who one is, where one looks, what changed. All state comes from /page/changes; the stream only says when to ask.

import { composer, encoded } from "/static/composer.js";
import { confirmed, showView } from "/static/dialogs.js";
import { avatar, dayLine, dayOf, messageNode, newLine, noticeNode } from "/static/messages.js";
import { mrkdwn, names, node } from "/static/mrkdwn.js";
import { estate, traffic } from "/static/panels.js";
import { blocksNode } from "/static/blocks.js";

const $ = (id) => document.getElementById(id);
const config = JSON.parse($("config").textContent);
const state = {
  me: "", channel: "", panel: "", thread: "", version: 0, messages: new Map(), notices: new Map(), views: [], home: null,
  read: new Map(), seenAt: "0", connected: 0, violations: 0, calls: new Map(), filter: "", asked: null, generation: 0,
};
const HOME = "home";

// --- talking to the server ---------------------------------------------------------------------------------------

async function post(action, body) {
  try {
    const response = await fetch(`/page/${action}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ as: state.me, ...body }) });
    const answer = await response.json();
    if (!response.ok) toast(answer.error);
    return answer;
  } catch {
    toast("The sandbox does not answer. Is the demo still running?");
    return { error: "offline" };
  }
}

async function refresh() {
  if (state.asked) { // one request at a time; the next begins when this one ends
    state.again = true;
    return state.asked;
  }
  const generation = state.generation;
  state.asked = fetch(`/page/changes?as=${state.me}&since=${state.version}`)
    .then((response) => response.json())
    .then((data) => generation === state.generation && take(data))
    .catch(() => setTimeout(refresh, 1000))
    .finally(() => {
      state.asked = null;
      if (state.again) {
        state.again = false;
        refresh();
      }
    });
  return state.asked;
}

function take(data) {
  const first = state.version === 0;
  if (data.version < state.version) return location.reload(); // another sandbox answers at this address
  state.version = data.version;
  for (const person of data.people) names.people.set(person.id, person);
  for (const channel of data.channels) names.channels.set(channel.id, channel);
  for (const group of data.groups) names.groups.set(group.id, group);
  const touched = new Set();
  for (const message of data.messages) {
    touched.add(message.ts);
    state.messages.set(message.ts, message);
  }
  for (const [, ts] of data.deleted) if (state.messages.delete(ts)) touched.add(ts);
  for (const notice of data.notices) state.notices.set(notice.id, notice);
  Object.assign(state, { views: data.views, home: data.home, connected: data.connected, violations: data.violations });
  if (first || !names.channels.has(state.channel)) chooseFromAddress();
  if (first) markAllRead();
  draw(touched, first || data.notices.length > 0);
  return undefined;
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 5000);
}

// --- where one is: #as=rita&in=deployments&thread=… --------------------------------------------------------------

function chooseFromAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const channels = [...names.channels.values()];
  const channel = channels.find((item) => item.name === wanted.get("in") || item.id === wanted.get("in")) || channels[0];
  state.channel = wanted.get("in") === HOME ? HOME : channel?.id || "";
}

function remember() {
  const where = new URLSearchParams({ as: names.people.get(state.me)?.name || state.me, in: state.channel === HOME ? HOME : names.channels.get(state.channel)?.name || "" });
  history.replaceState(null, "", `#${where}`);
}

function become(user) {
  if (user === state.me) return;
  const { channel, panel, thread } = state;
  Object.assign(state, { me: user, version: 0, messages: new Map(), notices: new Map(), views: [], home: null, generation: state.generation + 1, asked: null });
  names.me = user;
  $("messages").replaceChildren();
  shownMessages.clear();
  refresh()?.then(() => {
    go(names.channels.has(channel) || channel === HOME ? channel : state.channel);
    if (panel === "thread") openThread(thread);
  });
  closeMenus();
}

function go(channel) {
  state.channel = channel;
  if (state.panel === "thread") closePanel();
  state.seenAt = lastRead(channel);
  remember();
  draw(null, true);
  if (channel === HOME) post("home", {});
  closeMenus();
}

// --- unread ------------------------------------------------------------------------------------------------------

const readKey = (channel) => `${state.me}/${channel}`;
const lastRead = (channel) => state.read.get(readKey(channel)) || "0";
function markAllRead() {
  for (const channel of names.channels.keys()) if (!state.read.has(readKey(channel))) markRead(channel);
  state.seenAt = lastRead(state.channel);
}
function markRead(channel) {
  let last = lastRead(channel);
  for (const message of state.messages.values()) if (message.channel === channel && message.ts > last) last = message.ts;
  state.read.set(readKey(channel), last);
}
function unread(channel) {
  const since = lastRead(channel);
  const fresh = [...state.messages.values()].filter((message) => message.channel === channel && message.ts > since && message.user !== state.me);
  return { count: fresh.length, mentions: fresh.filter((message) => message.visible_to || (message.text || "").includes(`<@${state.me}>`)).length };
}

// --- drawing -----------------------------------------------------------------------------------------------------

const shownMessages = new Map(); // ts → JSON of what is drawn, so that only changed messages are drawn anew

// A list whose end was in view keeps its end in view, whatever grows or is laid out anew.
const sticking = new Set(["scroller"]);
function stick(id) {
  if (id === "scroller" && state.channel === HOME) return; // it is read from its top
  if (sticking.has(id) && (id === "scroller" || state.panel === "thread")) $(id).scrollTop = $(id).scrollHeight;
}
for (const id of ["scroller", "panel-scroller"]) {
  let size = "";
  $(id).addEventListener("scroll", () => {
    const { scrollHeight, scrollTop, clientHeight } = $(id);
    const laidOut = size !== `${scrollHeight}/${clientHeight}`; // then it was not the reader who scrolled
    size = `${scrollHeight}/${clientHeight}`;
    if (scrollHeight - scrollTop - clientHeight < 60) sticking.add(id);
    else if (!laidOut) sticking.delete(id);
  });
  const watch = new ResizeObserver(() => stick(id));
  watch.observe($(id));
  watch.observe($(id).firstElementChild);
}

const contextOf = (message) => ({
  key: message.ts,
  act: async (block, element, chosen, control) => {
    if (element.confirm && !(await confirmed(element.confirm))) return;
    control.classList.add("busy");
    if ("disabled" in control) control.disabled = true;
    await post("act", { channel: message.channel, ts: message.ts, block_id: block.block_id, action_id: element.action_id, value: element.value, chosen });
    control.classList.remove("busy");
    if ("disabled" in control) control.disabled = false;
  },
  suggest: async (block, element, query) =>
    (await post("suggest", { channel: message.channel, ts: message.ts, block_id: block.block_id, action_id: element.action_id, query })).options || [],
});

function draw(touched, whole) {
  drawSidebar();
  if (whole) sticking.add("scroller");
  drawChannel();
  if (document.hasFocus() || whole) markRead(state.channel);
  stick("scroller");
  if (state.panel === "thread" && (!touched || touched.size)) drawThread();
  if (state.panel === "traffic") loadTraffic();
  if (state.panel === "estate") loadEstate();
  $("outage").hidden = state.connected > 0;
  $("outage").textContent = "octocert is not connected to Slack at the moment. Commands will fail until it is back.";
  $("tab-traffic").classList.toggle("alarm", state.violations > 0);
  showView(state.views, post, state.me);
}

function listOf(channel, thread) {
  const messages = [...state.messages.values()].filter((message) => {
    if (message.channel !== channel) return false;
    const reply = message.thread_ts && message.thread_ts !== message.ts;
    return thread ? message.ts === thread || message.thread_ts === thread : !reply || message.broadcast;
  });
  const notices = [...state.notices.values()].filter((notice) => notice.channel === channel && (thread ? notice.thread_ts === thread : !notice.thread_ts));
  return [...messages, ...notices].sort((one, other) => (one.ts < other.ts ? -1 : 1));
}

function follows(message, previous) {
  return previous && !previous.id && previous.user === message.user && !message.visible_to && !previous.visible_to && !previous.reply_count &&
    message.ts - previous.ts < 300 && dayOf(message.ts) === dayOf(previous.ts);
}

function drawList(parent, items, options) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = [];
  let previous = null;
  for (const item of items) {
    if (!options.thread && (!previous || dayOf(previous.ts) !== dayOf(item.ts))) wanted.push([`day ${dayOf(item.ts)}`, () => dayLine(item.ts)]);
    if (!options.thread && state.seenAt !== "0" && item.ts > state.seenAt && previous && previous.ts <= state.seenAt && item.user !== state.me) wanted.push(["new", newLine]);
    const current = previous;
    const compact = Boolean(follows(item, current));
    const key = `${item.ts}`;
    const print = JSON.stringify([item, compact]);
    wanted.push([key, () => {
      const drawn = item.error !== undefined ? noticeNode(item) : messageNode(item, contextOf(item), { ...options, compact, fresh: options.live && !shownMessages.has(options.prefix + key) });
      shownMessages.set(options.prefix + key, print);
      return drawn;
    }, print]);
    if (options.thread && item.ts === options.thread) wanted.push(["count", () => node("div", { class: "day replies-line" }, node("span", {}, `${items.length - 1} ${items.length === 2 ? "reply" : "replies"}`))]);
    previous = item;
  }
  const nodes = wanted.map(([key, make, print]) => {
    const there = old.get(key);
    if (there && key !== "count" && (print === undefined || shownMessages.get(options.prefix + key) === print)) return there;
    const fresh = make();
    fresh.dataset.key = key;
    if (there) keepState(there, fresh);
    return fresh;
  });
  parent.replaceChildren(...nodes); // nodes that stay are the same objects
}

function keepState(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.dataset.action : null;
  if (focused) requestAnimationFrame(() => fresh.querySelector(`[data-action="${CSS.escape(focused)}"]`)?.focus());
}

function drawChannel() {
  const channel = names.channels.get(state.channel);
  const home = state.channel === HOME;
  $("composer").hidden = home;
  $("hint").hidden = home || !config.hint.length || dismissed;
  if (home) {
    $("channel-name").textContent = "octocert";
    $("channel-topic").textContent = "Home";
    const view = state.home;
    const print = view ? view.hash : "none";
    if ($("messages").dataset.home !== print) {
      const context = { key: view?.id, act: (block, element, chosen) => post("act", { view_id: view.id, block_id: block.block_id, action_id: element.action_id, value: element.value, chosen }), suggest: async () => [] };
      $("messages").replaceChildren(view ? node("div", { class: "home" }, blocksNode(view.blocks, context)) : node("p", { class: "empty muted" }, "octocert has published nothing here yet."));
      if (!$("messages").dataset.home) $("scroller").scrollTop = 0;
      $("messages").dataset.home = print;
    }
    return;
  }
  if ($("messages").dataset.home) {
    delete $("messages").dataset.home;
    $("messages").replaceChildren();
  }
  if (!channel) return;
  const title = channel.partner ? "octocert" : `#${channel.name}`;
  $("channel-name").textContent = title;
  $("channel-topic").textContent = channel.partner ? "Direct messages" : channel.topic + (channel.bot ? "" : " · octocert is not in this channel");
  mainComposer.label(`Message ${title} as ${names.people.get(state.me)?.real_name.split(" ")[0] || ""}`);
  const items = listOf(state.channel);
  if (items.length) drawList($("messages"), items, { open: openThread, prefix: `${state.channel}/`, live: state.version > 0 });
  else $("messages").replaceChildren(node("div", { class: "empty" }, node("strong", {}, `This is the very beginning of ${title}`), node("span", { class: "muted" }, "Type /octocert help to see what the bot can do.")));
}

function hash(channel) {
  const mark = node("span", { class: "hash", "aria-hidden": "true" }, channel.partner || channel.private ? "" : "#");
  if (channel.private && !channel.partner) mark.innerHTML = '<svg viewBox="0 0 20 20"><path d="M6 9V6.500a4 4 0 0 1 8 0V9M4.500 9h11v8h-11z"/></svg>';
  return mark;
}

const row = (attributes, ...children) => node("li", {}, node("button", { type: "button", ...attributes }, ...children));

function drawSidebar() {
  const places = [...names.channels.values()];
  const entry = (channel) => {
    const { count, mentions } = channel.id === state.channel ? { count: 0, mentions: 0 } : unread(channel.id);
    return row({ class: `place${channel.id === state.channel ? " here" : ""}${count ? " unread" : ""}`, "aria-current": channel.id === state.channel ? "page" : null, "data-channel": channel.name, onclick: () => go(channel.id) },
      hash(channel), node("span", {}, channel.partner ? "Messages" : channel.name),
      mentions ? node("span", { class: "badge", "aria-label": `${mentions} for you` }, String(mentions)) : null);
  };
  $("channels").replaceChildren(...places.filter((channel) => !channel.partner).map(entry));
  const bot = names.people.get(config.bot);
  $("apps").replaceChildren(
    row({ class: `place${state.channel === HOME ? " here" : ""}`, onclick: () => go(HOME) }, avatar(bot, "tiny"), node("span", {}, "octocert"),
      node("span", { class: `presence${state.connected ? " on" : ""}`, role: "img", "aria-label": state.connected ? "connected" : "not connected", title: state.connected ? `${state.connected} Socket Mode connection(s)` : "not connected" })),
    ...places.filter((channel) => channel.partner === state.me).map(entry));
  const humans = [...names.people.values()].filter((person) => !person.is_bot);
  $("people").replaceChildren(...humans.map((person) =>
    row({ class: `place person${person.id === state.me ? " here" : ""}`, "aria-pressed": String(person.id === state.me), "data-person": person.name, title: person.title, onclick: () => become(person.id) },
      avatar(person, "tiny"), node("span", {}, person.real_name), person.id === state.me ? node("span", { class: "you" }, "you") : null)));
  const me = names.people.get(state.me);
  $("me").replaceChildren(avatar(me, "tiny"), node("span", { class: "me-text" }, node("span", { class: "me-label" }, "You are: "), node("strong", {}, me?.real_name.split(" ")[0] || "")), node("span", { "aria-hidden": "true" }, " ▾"));
  $("me-list").replaceChildren(...humans.map((person) =>
    node("li", { role: "option", tabindex: "-1", "aria-selected": String(person.id === state.me), "data-person": person.name, onclick: () => become(person.id) },
      avatar(person), node("span", {}, node("strong", {}, person.real_name), node("small", {}, person.title)))));
}

// --- the panel: a thread, the estate, the traffic ----------------------------------------------------------------

let opener = null;
let timer = 0;

function openPanel(name, title) {
  opener = document.activeElement;
  state.panel = name;
  Object.assign($("panel"), { hidden: false, className: `panel panel-${name}` });
  $("panel").setAttribute("aria-label", title);
  $("panel-title").textContent = title;
  $("panel-note").textContent = "";
  $("thread-composer").hidden = name !== "thread";
  $("panel-body").replaceChildren();
  $("panel-body").className = `panel-body-${name}`;
  $("panel-scroller").scrollTop = 0;
  for (const tab of ["estate", "traffic"]) $(`tab-${tab}`).setAttribute("aria-pressed", String(tab === name));
  document.body.classList.add("with-panel");
  clearInterval(timer);
  if (name === "estate") timer = setInterval(loadEstate, 1500);
}

function closePanel() {
  state.panel = "";
  state.thread = "";
  $("panel").hidden = true;
  clearInterval(timer);
  document.body.classList.remove("with-panel");
  for (const tab of ["estate", "traffic"]) $(`tab-${tab}`).setAttribute("aria-pressed", "false");
  if (opener?.isConnected) opener.focus();
}

function openThread(ts) {
  const already = state.panel === "thread" && state.thread === ts;
  state.thread = ts;
  if (!already) openPanel("thread", "Thread");
  state.thread = ts;
  for (const key of shownMessages.keys()) if (key.startsWith("thread/")) shownMessages.delete(key);
  sticking.add("panel-scroller");
  drawThread();
  threadComposer.focus();
}

function drawThread() {
  const items = listOf(state.channel, state.thread);
  $("panel-note").textContent = $("channel-name").textContent;
  drawList($("panel-body"), items, { thread: state.thread, prefix: `thread/${state.thread}/`, live: false });
  stick("panel-scroller");
}

async function loadEstate() {
  const rows = await fetch("/page/estate").then((response) => (response.ok ? response.json() : null)).catch(() => null);
  if (state.panel === "estate" && rows) $("panel-body").replaceChildren(estate(rows));
}

let trafficTimer = 0;
function loadTraffic() {
  if (trafficTimer) return;
  trafficTimer = setTimeout(async () => {
    trafficTimer = 0;
    const data = await fetch("/page/traffic").then((response) => response.json()).catch(() => null);
    if (state.panel !== "traffic" || !data) return;
    let filter = $("panel-body").querySelector("input");
    if (!filter) {
      filter = node("input", { type: "search", placeholder: "Filter, for example chat.update", "aria-label": "Filter the traffic", oninput: (event) => { state.filter = event.target.value.toLowerCase(); loadTraffic(); } });
      filter.value = state.filter;
      $("panel-body").append(node("div", { class: "filter" }, filter), node("div", { class: "traffic" }));
    }
    traffic($("panel-body").lastChild, data, state.filter, state.calls);
  }, 150);
}

// --- composers, hint, keys ---------------------------------------------------------------------------------------

async function send(text, thread) {
  await ready; // who types as soon as the page is there is heard, too
  const channel = state.channel;
  if (text.startsWith("/") && !thread) return post("command", { channel, text });
  if (text.startsWith("/")) return toast(`${text.split(" ")[0]} is not supported in threads. Sorry! Mention @octocert instead.`);
  return post("say", { channel, text: encoded(text), thread });
}
const mainComposer = composer($("composer"), config, { label: "Message", send: (text) => send(text) });
const threadComposer = composer($("thread-composer"), config, { label: "Reply, or mention @octocert", send: (text) => send(text, state.thread) });

let dismissed = sessionStorage.getItem("hint") === "off";
function drawHint() {
  const lines = config.hint.map((line) => {
    const item = mrkdwn(line, "li");
    for (const code of item.querySelectorAll("code")) {
      if (!code.textContent.startsWith("/")) continue;
      code.replaceWith(node("button", { class: "try", type: "button", title: "Put it into the message box", onclick: () => mainComposer.fill(code.textContent) }, code.textContent));
    }
    return item;
  });
  $("hint").open = window.innerWidth > 760;
  $("hint").replaceChildren(node("summary", {}, "What to try"), node("ol", {}, ...lines),
    node("button", { class: "icon-button", type: "button", "aria-label": "Hide these hints", onclick: () => { dismissed = true; sessionStorage.setItem("hint", "off"); $("hint").hidden = true; } }, "✕"));
}

function closeMenus() {
  $("me-list").hidden = true;
  $("me").setAttribute("aria-expanded", "false");
  document.body.classList.remove("menu-open");
  $("menu").setAttribute("aria-expanded", "false");
}

$("me").addEventListener("click", () => {
  const open = $("me-list").hidden;
  $("me-list").hidden = !open;
  $("me").setAttribute("aria-expanded", String(open));
  if (open) $("me-list").querySelector('[aria-selected="true"]')?.focus();
});
$("me-list").addEventListener("keydown", (event) => {
  const here = document.activeElement;
  const next = { ArrowDown: here.nextElementSibling, ArrowUp: here.previousElementSibling }[event.key];
  if (next) next.focus();
  else if (event.key === "Enter" || event.key === " ") { here.click(); $("me").focus(); }
  else return;
  event.preventDefault();
});
$("menu").addEventListener("click", () => {
  const open = document.body.classList.toggle("menu-open");
  $("menu").setAttribute("aria-expanded", String(open));
});
$("panel-close").addEventListener("click", closePanel);
$("tab-estate").hidden = !config.estate;
for (const [name, title, load] of [["estate", "Estate", loadEstate], ["traffic", "Traffic", loadTraffic]]) {
  $(`tab-${name}`).addEventListener("click", () => {
    if (state.panel === name) return closePanel();
    openPanel(name, title);
    return load();
  });
}
document.addEventListener("click", (event) => { if (!event.target.closest(".me, .sidebar, #menu")) closeMenus(); });
// A permalink leads to its message here, as it does in Slack.
document.addEventListener("click", (event) => {
  const found = /^https:\/\/sandbox\.slack\.example\/archives\/(\w+)\/p(\d+)(\d{6})(?:\?thread_ts=([\d.]+))?/.exec(event.target.closest("a")?.href || "");
  if (!found || !names.channels.has(found[1])) return;
  event.preventDefault();
  go(found[1]);
  openThread(found[4] || `${found[2]}.${found[3]}`);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (!$("me-list").hidden) { closeMenus(); $("me").focus(); }
  else if (document.body.classList.contains("menu-open")) closeMenus();
  else if (state.panel) closePanel();
});
// As in Slack: what is typed where nothing takes it goes into the message box.
document.addEventListener("keydown", (event) => {
  const typed = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
  const taken = event.target.closest("input, textarea, select") || document.querySelector("dialog[open]");
  if (typed && !taken) mainComposer.focus();
});
window.addEventListener("focus", () => { markRead(state.channel); drawSidebar(); });

// --- start -------------------------------------------------------------------------------------------------------

async function start() {
  mainComposer.focus();
  drawHint();
  const people = await fetch("/page/changes?as=&since=0").then((response) => response.json());
  const humans = people.people.filter((person) => !person.is_bot);
  const wanted = new URLSearchParams(location.hash.slice(1)).get("as");
  state.me = names.me = (humans.find((person) => [person.name, person.id].includes(wanted)) || humans[0]).id;
  await refresh();
  remember();
  if (state.channel === HOME) post("home", {});
  const stream = new EventSource("/page/stream");
  stream.onmessage = (event) => { if (Number(event.data) !== state.version) refresh(); };
  document.documentElement.dataset.ready = "yes";
}
const ready = start();
