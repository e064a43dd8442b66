// Avatars, messages, threads' footers and days as DOM nodes.

import { blocksNode } from "/static/blocks.js";
import { emoji } from "/static/emoji.js";
import { mrkdwn, names, node } from "/static/mrkdwn.js";

const COLOURS = ["#c2410c", "#0f766e", "#6d28d9", "#b45309", "#be185d", "#1d4ed8", "#4d7c0f", "#0e7490"];
const FIXED = { U0RITA: "#be185d", U0ADA: "#6d28d9", U0BEN: "#0f766e", U0OTTO: "#b45309" };

export function avatar(person, size = "") {
  if (person?.is_bot) return node("img", { class: `avatar ${size}`, src: "/static/icon.svg", alt: "" });
  const initials = (person?.real_name || "?").split(/\s+/).slice(0, 2).map((word) => word[0]).join("");
  const span = node("span", { class: `avatar ${size}`, "aria-hidden": "true" }, initials);
  const sum = [...(person?.id || "")].reduce((total, character) => total + character.charCodeAt(0), 0);
  span.style.background = FIXED[person?.id] || COLOURS[sum % COLOURS.length];
  return span;
}

export const when = (ts) => new Date(Number(ts) * 1000);
export const clock = (ts) => when(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export function dayOf(ts) {
  const at = when(ts);
  const today = new Date();
  if (at.toDateString() === today.toDateString()) return "Today";
  today.setDate(today.getDate() - 1);
  if (at.toDateString() === today.toDateString()) return "Yesterday";
  return at.toLocaleDateString([], { weekday: "long", month: "long", day: "numeric" });
}

export const dayLine = (ts) => node("div", { class: "day", role: "separator" }, node("span", {}, dayOf(ts)));
export const newLine = () => node("div", { class: "new-line", role: "separator" }, node("span", {}, "New"));

function body(message, context) {
  const parent = node("div", { class: "message-body" });
  if (message.blocks?.length) parent.append(blocksNode(message.blocks, context));
  else if (message.text) parent.append(mrkdwn(message.text));
  for (const attachment of message.attachments || []) {
    const frame = node("div", { class: "attachment" });
    if (attachment.blocks) frame.append(blocksNode(attachment.blocks, context));
    else frame.append(mrkdwn(attachment.text || attachment.fallback || ""));
    if (/^#?[0-9a-f]{6}$/i.test(attachment.color || "")) frame.style.borderColor = `#${attachment.color.replace("#", "")}`;
    parent.append(frame);
  }
  for (const file of message.files || []) {
    parent.append(node("a", { class: "file", href: file.permalink, target: "_blank", rel: "noopener noreferrer" }, emoji("page_facing_up"), node("span", {}, node("strong", {}, file.title), node("small", {}, `${file.pretty_type} · ${file.size} bytes`))));
  }
  if (message.edited) parent.append(node("span", { class: "edited" }, " (edited)"));
  if (message.reactions?.length) {
    parent.append(node("div", { class: "reactions" }, ...message.reactions.map((reaction) =>
      node("span", { class: "reaction", title: reaction.users.map((user) => names.people.get(user)?.real_name || user).join(", ") }, emoji(reaction.name), ` ${reaction.count}`))));
  }
  return parent;
}

/** One message; `options`: compact (same author goes on), thread (shown in the thread pane), open(ts) opens its thread. */
export function messageNode(message, context, options) {
  const person = names.people.get(message.user);
  const private_ = Boolean(message.visible_to);
  const article = node("article", {
    class: `message${options.compact ? " compact" : ""}${private_ ? " ephemeral" : ""}${options.fresh ? " fresh" : ""}`,
    "data-ts": message.ts, "aria-label": `${person?.real_name || message.user}, ${clock(message.ts)}`,
  });
  if (private_) article.append(node("div", { class: "only-you" }, "Only visible to you"));
  const time = node("time", { datetime: when(message.ts).toISOString(), title: when(message.ts).toLocaleString() }, clock(message.ts));
  const main = node("div", { class: "message-main" });
  if (!options.compact) {
    main.append(node("div", { class: "message-head" }, node("strong", {}, person?.real_name || message.user), person?.is_bot ? node("span", { class: "app-mark" }, "App") : null, time));
  }
  if (message.broadcast && !options.thread) main.append(node("div", { class: "muted small" }, "replied to a thread"));
  main.append(body(message, context));
  if (message.reply_count && !options.thread) {
    const faces = (message.reply_users || []).slice(0, 3).map((user) => avatar(names.people.get(user), "tiny"));
    const count = `${message.reply_count} ${message.reply_count === 1 ? "reply" : "replies"}`;
    main.append(node("button", { class: "replies", type: "button", onclick: () => options.open(message.ts) }, ...faces, node("strong", {}, count), node("span", { class: "muted" }, `Last reply ${dayOf(message.latest_reply).toLowerCase()} at ${clock(message.latest_reply)}`)));
  }
  article.append(options.compact ? node("div", { class: "gutter" }, node("span", {}, when(message.ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }))) : avatar(person), main);
  if (!options.thread && !private_) {
    const reply = node("button", { class: "reply-button", type: "button", title: "Reply in thread", "aria-label": "Reply in thread", onclick: () => options.open(message.thread_ts || message.ts) });
    reply.innerHTML = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 5.500h14v8H9L5.500 16.500v-3H3zM6.500 9.500h7"/></svg>';
    article.append(reply);
  }
  return article;
}

/** What Slack itself tells one person. */
export function noticeNode(notice) {
  return node("article", { class: "message ephemeral notice", role: "alert" },
    node("div", { class: "only-you" }, "Only visible to you"),
    node("span", { class: "avatar slackbot", "aria-hidden": "true" }, "♥"),
    node("div", { class: "message-main" },
      node("div", { class: "message-head" }, node("strong", {}, "Slackbot"), node("time", {}, clock(notice.ts))),
      node("div", { class: "message-body" }, mrkdwn(notice.text))));
}
