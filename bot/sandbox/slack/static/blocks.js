// Block Kit as DOM nodes. `context.act(block, element, chosen)` is called when a person presses or chooses something.

import { emoji, appendText } from "/static/emoji.js";
import { date, link, markdown, mention, names, node, plain, text } from "/static/mrkdwn.js";
import { input, menu } from "/static/inputs.js";

const ICONS = {
  pending: '<svg viewBox="0 0 20 20"><circle cx="10" cy="10" r="7.500" fill="none" stroke="currentColor" stroke-width="1.600" stroke-dasharray="3 2.200"/></svg>',
  in_progress: '<svg viewBox="0 0 20 20" class="spin"><circle cx="10" cy="10" r="7.500" fill="none" stroke="currentColor" stroke-opacity=".22" stroke-width="2.200"/><path d="M10 2.500a7.500 7.500 0 0 1 7.500 7.500" fill="none" stroke="currentColor" stroke-width="2.200" stroke-linecap="round"/></svg>',
  complete: '<svg viewBox="0 0 20 20"><circle cx="10" cy="10" r="8.500" fill="currentColor"/><path d="M6 10.300l2.700 2.700L14 7.500" fill="none" stroke="var(--surface)" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>',
  error: '<svg viewBox="0 0 20 20"><circle cx="10" cy="10" r="8.500" fill="currentColor"/><path d="M7 7l6 6M13 7l-6 6" fill="none" stroke="var(--surface)" stroke-width="2" stroke-linecap="round"/></svg>',
  info: '<svg viewBox="0 0 20 20"><circle cx="10" cy="10" r="8.500" fill="currentColor"/><path d="M10 9.200v5M10 6v.1" stroke="var(--surface)" stroke-width="2" stroke-linecap="round"/></svg>',
  warning: '<svg viewBox="0 0 20 20"><path d="M10 2l8.500 15h-17z" fill="currentColor" stroke="currentColor" stroke-width="1.500" stroke-linejoin="round"/><path d="M10 8v4M10 14.500v.1" stroke="var(--surface)" stroke-width="1.800" stroke-linecap="round"/></svg>',
};
ICONS.success = ICONS.complete;
ICONS.default = ICONS.info;
const WORDS = { pending: "not started", in_progress: "in progress", complete: "done", error: "failed" };

export function icon(name, label) {
  const span = node("span", { class: `icon icon-${name}`, role: "img", "aria-label": label || WORDS[name] || name, title: label || WORDS[name] });
  span.innerHTML = ICONS[name]; // fixed drawings only
  return span;
}

// --- rich text ---------------------------------------------------------------------------------------------------

function styled(child, style) {
  let result = child;
  for (const [name, tag] of [["code", "code"], ["bold", "strong"], ["italic", "em"], ["strike", "s"], ["underline", "u"]]) {
    if (style && style[name]) result = node(tag, {}, result);
  }
  return result;
}

function inline(item) {
  switch (item.type) {
    case "text": {
      const span = document.createDocumentFragment();
      item.text.split("\n").forEach((line, index) => {
        if (index) span.append(node("br"));
        appendText(span, line);
      });
      return styled(span, item.style);
    }
    case "link": return styled(link(item.url, item.text), item.style);
    case "emoji": return emoji(item.name);
    case "user": return mention(item.user_id);
    case "channel": return node("span", { class: "mention" }, `#${names.channels.get(item.channel_id)?.name || item.channel_id}`);
    case "usergroup": return node("span", { class: "mention" }, `@${names.groups.get(item.usergroup_id)?.handle || item.usergroup_id}`);
    case "broadcast": return node("span", { class: "mention" }, `@${item.range}`);
    case "date": return node("time", { title: new Date(item.timestamp * 1000).toString() }, date(item.timestamp, item.format, item.fallback));
    case "color": return node("code", {}, item.value);
    default: return document.createTextNode("");
  }
}

export function richText(block) {
  const parent = node("div", { class: "rich-text" });
  for (const part of block.elements) {
    const children = () => part.elements.map(inline);
    if (part.type === "rich_text_section") parent.append(node("div", { class: "rich-section" }, ...children()));
    else if (part.type === "rich_text_quote") parent.append(node("blockquote", {}, ...children()));
    else if (part.type === "rich_text_preformatted") parent.append(node("pre", {}, ...children()));
    else if (part.type === "rich_text_list") {
      const list = node(part.style === "ordered" ? "ol" : "ul", { class: `indent-${part.indent || 0}`, start: part.offset ? part.offset + 1 : null });
      list.append(...part.elements.map((line) => node("li", {}, ...line.elements.map(inline))));
      parent.append(list);
    }
  }
  return parent;
}

// --- plan, task card, table --------------------------------------------------------------------------------------

function task(card) {
  const inner = node("div", { class: "task-body" });
  if (card.details) inner.append(node("div", { class: "task-details" }, richText(card.details)));
  if (card.output) inner.append(node("div", { class: "task-output" }, richText(card.output)));
  if (card.sources?.length) inner.append(node("div", { class: "task-sources" }, ...card.sources.map((source) => link(source.url, source.text))));
  const status = card.status || "pending";
  return node("li", { class: `task task-${status}` }, icon(status), node("div", {}, plain(card.title, "div"), inner.childNodes.length ? inner : null));
}

const openPlans = new Map(); // what a person folded stays folded while the plan is edited

function plan(block, context) {
  const tasks = block.tasks || [];
  const done = tasks.filter((card) => card.status === "complete").length;
  const failed = tasks.some((card) => card.status === "error");
  const running = tasks.some((card) => card.status === "in_progress");
  const state = failed ? "error" : done === tasks.length && tasks.length ? "complete" : running ? "in_progress" : "pending";
  const key = `${context.key}:${context.index}`;
  const details = node("details", { class: `plan plan-${state}`, open: openPlans.get(key) ?? true });
  details.addEventListener("toggle", () => openPlans.set(key, details.open));
  const bar = node("span", { class: "plan-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": tasks.length, "aria-valuenow": done, "aria-label": "Progress" }, node("i"));
  bar.firstChild.style.width = `${tasks.length ? (100 * done) / tasks.length : 0}%`;
  details.append(
    node("summary", {}, icon(state), plain(block.title, "strong"), node("span", { class: "plan-count" }, `${done} of ${tasks.length}`), bar),
    node("ol", { class: "tasks" }, ...tasks.map(task)),
  );
  return details;
}

function cell(value) {
  if (value.type === "rich_text") return richText(value);
  return plain(String(value.text ?? value.value ?? ""));
}

function table(block) {
  const settings = block.column_settings || [];
  const make = (tag, row) =>
    node("tr", {}, ...row.map((value, index) => {
      const setting = settings[index] || {};
      return node(tag, { class: `align-${setting.align || "left"}${setting.is_wrapped ? " wrapped" : ""}`, scope: tag === "th" ? "col" : null }, cell(value));
    }));
  const [head, ...rows] = block.rows;
  return node("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Table" },
    node("table", {}, node("thead", {}, make("th", head)), node("tbody", {}, ...rows.map((row) => make("td", row)))));
}

// --- elements ----------------------------------------------------------------------------------------------------

export function button(block, element, context) {
  const label = text(element.text, "span");
  const result = element.url
    ? node("a", { class: `button ${element.style || ""}`, href: /^https?:/.test(element.url) ? element.url : "#", target: "_blank", rel: "noopener noreferrer" }, label)
    : node("button", { class: `button ${element.style || ""}`, type: "button", "aria-label": element.accessibility_label, "data-action": element.action_id }, label);
  result.addEventListener("click", () => context.act(block, element, null, result));
  return result;
}

function interactive(block, element, context) {
  if (element.type === "button") return button(block, element, context);
  if (element.type === "image") return node("img", { class: "accessory-image", src: element.image_url, alt: element.alt_text });
  return menu(block, element, context);
}

// --- blocks ------------------------------------------------------------------------------------------------------

const MAKERS = {
  section(block, context) {
    const body = node("div", { class: "section-body" });
    if (block.text) body.append(text(block.text));
    if (block.fields) body.append(node("div", { class: "fields" }, ...block.fields.map((field) => text(field))));
    const section = node("div", { class: "section" }, body);
    if (block.accessory) section.append(node("div", { class: "accessory" }, interactive(block, block.accessory, context)));
    return section;
  },
  header: (block) => node("h3", { class: "block-header" }, text(block.text, "span")),
  divider: () => node("hr"),
  context: (block) =>
    node("div", { class: "context" }, ...block.elements.map((item) =>
      item.type === "image" ? node("img", { src: item.image_url, alt: item.alt_text }) : text(item, "span"))),
  actions: (block, context) => node("div", { class: "actions" }, ...block.elements.map((element) => interactive(block, element, context))),
  context_actions: (block, context) =>
    node("div", { class: "actions" }, ...block.elements.flatMap((element) =>
      element.type === "feedback_buttons"
        ? [element.positive_button, element.negative_button].map((half) => button(block, { ...half, type: "button", action_id: element.action_id }, context))
        : [button(block, element, context)])),
  image: (block) => node("figure", {}, block.title ? text(block.title, "figcaption") : null, node("img", { src: block.image_url, alt: block.alt_text })),
  rich_text: richText,
  markdown: (block) => markdown(block.text),
  table,
  plan,
  task_card: (block) => node("ol", { class: "tasks lone" }, task(block)),
  alert(block) {
    const level = block.level || "default";
    return node("div", { class: `alert alert-${level}`, role: level === "error" || level === "warning" ? "alert" : "status" }, icon(level, level), text(block.text));
  },
  card: (block, context) =>
    node("div", { class: "card" },
      block.hero_image ? node("img", { src: block.hero_image.image_url, alt: block.hero_image.alt_text }) : null,
      block.title ? node("strong", {}, text(block.title, "span")) : null,
      block.subtitle ? node("div", { class: "muted" }, text(block.subtitle, "span")) : null,
      block.body ? text(block.body) : null,
      block.actions ? node("div", { class: "actions" }, ...block.actions.map((element) => button(block, element, context))) : null),
  carousel: (block, context) => node("div", { class: "carousel" }, ...block.elements.map((card) => MAKERS.card(card, context))),
  container(block, context) {
    const title = block.title ? text(block.title, "strong") : richText(block.rich_text_title);
    const body = block.child_blocks.map((child) => blockNode(child, context));
    if (!block.is_collapsible) return node("div", { class: "container" }, node("div", { class: "container-title" }, title), ...body);
    return node("details", { class: "container", open: !block.default_collapsed }, node("summary", {}, title), ...body);
  },
  input: (block, context) => input(block, context),
};

function blockNode(block, context) {
  const make = MAKERS[block.type];
  if (!make) return node("div", { class: "muted" }, `(a ${block.type} block)`);
  const element = make(block, context);
  element.dataset.block = block.block_id || "";
  return element;
}

export function blocksNode(blocks, context) {
  const shown = blocks.map((block, index) => blockNode(block, { ...context, index }));
  return node("div", { class: "blocks" }, ...shown);
}
