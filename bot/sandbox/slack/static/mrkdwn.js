// Slack's mrkdwn, plain text with emoji, and the common part of Markdown, as DOM nodes. Nothing is ever parsed as HTML.

import { appendText, emoji } from "/static/emoji.js";

/** What mentions resolve to; the application fills it. */
export const names = { people: new Map(), channels: new Map(), groups: new Map(), me: "" };

export function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const unescape = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

export function link(address, label) {
  const safe = /^(https?:|mailto:|tel:)/i.test(address) ? address : "#";
  return node("a", { href: safe, target: "_blank", rel: "noopener noreferrer" }, label || address);
}

export function mention(user) {
  const person = names.people.get(user);
  return node("span", { class: `mention${user === names.me ? " me" : ""}` }, `@${person ? person.real_name : user}`);
}

export function date(timestamp, format, fallback) {
  const at = new Date(Number(timestamp) * 1000);
  if (Number.isNaN(at.getTime())) return fallback || format;
  const day = at.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
  const today = at.toDateString() === new Date().toDateString();
  return format.replace(/\{(\w+)\}/g, (whole, name) => {
    if (name === "time") return at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    if (name === "time_secs") return at.toLocaleTimeString();
    if (name.endsWith("_pretty")) return today ? "today" : day;
    return name.startsWith("date") ? day : whole;
  });
}

function special(inside) {
  const [address, label] = [inside.split("|")[0], inside.includes("|") ? unescape(inside.slice(inside.indexOf("|") + 1)) : ""];
  if (address.startsWith("@")) return mention(address.slice(1));
  if (address.startsWith("#")) {
    const channel = names.channels.get(address.slice(1));
    return node("span", { class: "mention" }, `#${channel ? channel.name : label || address.slice(1)}`);
  }
  if (address.startsWith("!subteam^")) {
    const group = names.groups.get(address.slice(9));
    return node("span", { class: "mention" }, `@${group ? group.handle : label || "group"}`);
  }
  if (address.startsWith("!date^")) {
    const [, timestamp, format] = address.split("^");
    return node("time", { title: new Date(Number(timestamp) * 1000).toString() }, date(timestamp, format, label));
  }
  if (address.startsWith("!")) return node("span", { class: "mention" }, `@${label || address.slice(1)}`);
  if (!/^(https?:|mailto:|tel:)/i.test(address)) return document.createTextNode(`<${unescape(inside)}>`);
  return link(unescape(address), label);
}

// One pass over a line: the earliest of these wins. Bold, italic and strike hold further inline marks.
const INLINE = [
  [/`([^`\n]+)`/, (found) => node("code", {}, unescape(found[1]))],
  [/<([^<>\n]+)>/, (found) => special(found[1])],
  [/(?<![\w*])\*(?![\s*])([^*\n]*[^\s*])\*(?![\w*])/, (found) => inlineInto(node("strong"), found[1])],
  [/(?<![\w_])_(?![\s_])([^_\n]*[^\s_])_(?![\w_])/, (found) => inlineInto(node("em"), found[1])],
  [/(?<![\w~])~(?![\s~])([^~\n]*[^\s~])~(?![\w~])/, (found) => inlineInto(node("s"), found[1])],
  [/:([a-z0-9_+-]+):/, (found) => emoji(found[1])],
];

function inlineInto(parent, text) {
  let rest = text;
  while (rest) {
    let best = null;
    for (const [pattern, make] of INLINE) {
      const found = pattern.exec(rest);
      if (found && (!best || found.index < best.found.index)) best = { found, make };
    }
    if (!best) break;
    appendText(parent, unescape(rest.slice(0, best.found.index)));
    parent.append(best.make(best.found));
    rest = rest.slice(best.found.index + best.found[0].length);
  }
  appendText(parent, unescape(rest));
  return parent;
}

function linesInto(parent, text) {
  let quote = null;
  text.split("\n").forEach((line, index, all) => {
    const quoted = /^(?:&gt;|>)\s?(.*)$/.exec(line);
    if (quoted) {
      if (!quote) parent.append((quote = node("blockquote")));
      else quote.append(node("br"));
      inlineInto(quote, quoted[1]);
      return;
    }
    const bullet = /^\s*[•◦-]\s+(.*)$/.exec(line);
    if (bullet && !line.startsWith("-")) parent.append(inlineInto(node("div", { class: "bullet" }), bullet[1]));
    else {
      inlineInto(parent, line);
      if (index < all.length - 1) parent.append(node("br"));
    }
    quote = null;
  });
}

/** Slack's mrkdwn. */
export function mrkdwn(text, tag = "div") {
  const parent = node(tag, { class: "mrkdwn" });
  text.split(/```\n?/).forEach((part, index) => {
    if (index % 2) parent.append(node("pre", {}, unescape(part.replace(/\n$/, ""))));
    else if (part) linesInto(parent, index ? part.replace(/^\n/, "") : part);
  });
  return parent;
}

/** Plain text with emoji short names. */
export function plain(text, tag = "span") {
  const parent = node(tag);
  text.split(/(:[a-z0-9_+-]+:)/).forEach((part) => {
    const found = /^:([a-z0-9_+-]+):$/.exec(part);
    if (found) parent.append(emoji(found[1]));
    else appendText(parent, part);
  });
  return parent;
}

/** A text object of either kind. */
export function text(object, tag = "div") {
  if (!object) return null;
  return object.type === "mrkdwn" ? mrkdwn(object.text, tag) : plain(object.text, tag);
}

/** The common part of Markdown, for the markdown block: headings, lists, quotes, fences, bold, links. */
export function markdown(source) {
  const parent = node("div", { class: "markdown" });
  const inline = (value) =>
    value
      .replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
      .replace(/\[([^\]]+)\]\((https?:[^)\s]+)\)/g, "<$2|$1>")
      .replace(/(?<!\*)\*(?!\*)([^*\n]+)\*(?!\*)/g, "_$1_")
      .replace(/\*\*([^*]+)\*\*|__([^_]+)__/g, "*$1$2*")
      .replace(/~~([^~]+)~~/g, "~$1~");
  source.split(/```\w*\n?/).forEach((part, index) => {
    if (index % 2) {
      parent.append(node("pre", {}, part.replace(/\n$/, "")));
      return;
    }
    let list = null;
    for (const line of part.split("\n")) {
      const heading = /^(#{1,6})\s+(.*)$/.exec(line);
      const item = /^\s*(?:[-*+]|(\d+)\.)\s+(.*)$/.exec(line);
      if (item) {
        const tag = item[1] ? "OL" : "UL";
        if (!list || list.tagName !== tag) parent.append((list = node(tag.toLowerCase())));
        list.append(inlineInto(node("li"), inline(item[2])));
        continue;
      }
      list = null;
      if (heading) parent.append(inlineInto(node("strong", { class: `h${heading[1].length}` }), inline(heading[2])));
      else if (line.trim()) parent.append(inlineInto(node("p"), inline(line)));
    }
  });
  return parent;
}
