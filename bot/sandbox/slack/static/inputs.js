// Menus, pickers and the fields of modals; `state(form)` reads them back in the form of Slack's view state.

import { names, node, plain, text } from "/static/mrkdwn.js";

const label = (option) => text(option.text, "span").textContent;
const people = () => [...names.people.values()].filter((person) => !person.is_bot);

function optionsOf(element) {
  if (element.type.includes("users_select")) return people().map((person) => ({ value: person.id, name: person.real_name }));
  if (element.type.includes("channels_select") || element.type.includes("conversations_select")) {
    return [...names.channels.values()].map((channel) => ({ value: channel.id, name: `#${channel.name}` }));
  }
  const all = element.options || (element.option_groups || []).flatMap((group) => group.options);
  return all.map((option) => ({ value: option.value, name: label(option), option }));
}

const WHOLE = { users_select: "selected_user", channels_select: "selected_channel", conversations_select: "selected_conversation" };
const PICKERS = { datepicker: ["date", "selected_date", "initial_date"], timepicker: ["time", "selected_time", "initial_time"] };

function select(element, id) {
  const options = optionsOf(element);
  const initial = element.initial_option?.value || element.initial_user || element.initial_channel || element.initial_conversation;
  const result = node("select", { id, "data-action": element.action_id, "data-kind": element.type, "aria-label": element.placeholder?.text || "Choose" });
  result.append(node("option", { value: "", disabled: element.type === "overflow" }, element.type === "overflow" ? "⋯" : element.placeholder?.text || "Choose an option"));
  result.append(...options.map((item) => node("option", { value: item.value, selected: item.value === initial }, item.name)));
  result.chosen = () => {
    const found = options.find((item) => item.value === result.value);
    if (WHOLE[element.type]) return { [WHOLE[element.type]]: found?.value ?? null };
    return { selected_option: found?.option ?? null };
  };
  return result;
}

function choices(element, id, kind) {
  const options = optionsOf(element);
  const initial = new Set((element.initial_options || (element.initial_option ? [element.initial_option] : [])).map((option) => option.value));
  const frame = node("div", { class: "choices", role: kind === "radio" ? "radiogroup" : "group", "data-action": element.action_id, "data-kind": element.type, id });
  for (const [index, item] of options.entries()) {
    const box = node("input", { type: kind, name: id, value: item.value, id: `${id}-${index}`, checked: initial.has(item.value) });
    frame.append(node("label", { for: `${id}-${index}` }, box, item.option ? text(item.option.text, "span") : item.name,
      item.option?.description ? node("small", {}, text(item.option.description, "span")) : null));
  }
  frame.chosen = () => {
    const values = [...frame.querySelectorAll("input:checked")].map((box) => box.value);
    const found = options.filter((item) => values.includes(item.value));
    if (kind === "radio") return { selected_option: found[0]?.option ?? null };
    if (element.type === "multi_users_select") return { selected_users: values };
    if (element.type === "multi_channels_select") return { selected_channels: values };
    if (element.type === "multi_conversations_select") return { selected_conversations: values };
    return { selected_options: found.map((item) => item.option) };
  };
  return frame;
}

function external(block, element, context, id) {
  const isMulti = element.type.startsWith("multi_");
  const least = element.min_query_length ?? 3;
  const most = element.max_selected_items || (isMulti ? 100 : 1);
  let chosen = element.initial_options || (element.initial_option ? [element.initial_option] : []);
  let options = [], active = -1, asked = 0, timer = 0;
  const list = node("div", { class: "suggestions", id: `${id}-list`, role: "listbox", hidden: true });
  const box = node("input", { id, type: "text", role: "combobox", "aria-controls": `${id}-list`, "aria-expanded": "false", autocomplete: "off", placeholder: element.placeholder?.text || "Search" });
  const picks = node("span", { class: "picks" });
  const frame = node("div", { class: "external", "data-action": element.action_id, "data-kind": element.type }, picks, box, list);
  const close = () => { list.hidden = true; active = -1; box.setAttribute("aria-expanded", "false"); };
  const show = () => {
    picks.replaceChildren(...(isMulti ? chosen : []).map((option) => node("span", { class: "pick" }, label(option),
      node("button", { type: "button", "aria-label": `Remove ${label(option)}`, onclick: () => { chosen = chosen.filter((one) => one !== option); changed(); } }, "×"))));
    if (!isMulti) box.value = chosen[0] ? label(chosen[0]) : "";
  };
  const changed = () => { show(); frame.dispatchEvent(new Event("change")); };
  const take = (option) => {
    if (!isMulti) chosen = [option];
    else if (chosen.length < most) chosen = [...chosen, option];
    if (isMulti) box.value = "";
    close();
    changed();
    box.focus();
    if (isMulti) list.hidden = true;
  };
  const draw = () => {
    const free = options.filter((option) => !isMulti || !chosen.some((one) => one.value === option.value));
    const rows = free.map((option, index) => node("div", { class: "suggestion", role: "option", "aria-selected": String(index === active) }, label(option)));
    rows.forEach((row, index) => row.addEventListener("mousedown", (event) => { event.preventDefault(); take(free[index]); }));
    list.replaceChildren(...(rows.length ? rows : [node("div", { class: "suggestion muted" }, "No results")]));
    list.hidden = false;
    box.setAttribute("aria-expanded", "true");
    rows[active]?.scrollIntoView({ block: "nearest" });
    return free;
  };
  const ask = async () => {
    const mine = (asked += 1);
    if (box.value.length < least) { close(); return; }
    const found = await context.suggest(block, element, box.value);
    if (mine !== asked || document.activeElement !== box) return;
    options = found;
    active = found.length ? 0 : -1;
    draw();
  };
  box.addEventListener("input", () => {
    clearTimeout(timer);
    asked += 1;
    [options, active] = [[], -1]; // what was found for another word may not be chosen by this one
    list.replaceChildren(node("div", { class: "suggestion muted" }, "Searching…"));
    timer = setTimeout(ask, 150);
  });
  box.addEventListener("change", (event) => event.stopPropagation());
  box.addEventListener("focus", ask);
  box.addEventListener("click", () => { if (list.hidden) ask(); });
  box.addEventListener("blur", () => { asked += 1; close(); if (!isMulti) show(); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && !box.value && isMulti && chosen.length) { chosen = chosen.slice(0, -1); changed(); }
    if (list.hidden) { if (event.key === "ArrowDown") ask(); else if (event.key === "Enter") event.preventDefault(); return; }
    const free = options.filter((option) => !isMulti || !chosen.some((one) => one.value === option.value));
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      active = Math.max(0, Math.min(free.length - 1, active + (event.key === "ArrowDown" ? 1 : -1)));
      draw();
    } else if (event.key === "Enter" && free[active]) take(free[active]);
    else if (event.key === "Escape") { event.stopPropagation(); close(); }
    else return;
    event.preventDefault();
  });
  frame.chosen = () => (isMulti ? { selected_options: chosen } : { selected_option: chosen[0] ?? null });
  show();
  return frame;
}

function picker(element, id) {
  if (element.type === "datetimepicker") {
    const box = node("input", { id, type: "datetime-local", "data-action": element.action_id, "data-kind": element.type });
    if (element.initial_date_time) box.value = new Date(element.initial_date_time * 1000 - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    box.chosen = () => ({ selected_date_time: box.value ? Math.round(new Date(box.value).getTime() / 1000) : null });
    return box;
  }
  const [type, name, initial] = PICKERS[element.type];
  const box = node("input", { id, type, value: element[initial], "data-action": element.action_id, "data-kind": element.type });
  box.chosen = () => ({ [name]: box.value || null });
  return box;
}

function typed(element, id) {
  const common = { id, placeholder: element.placeholder?.text, "data-action": element.action_id, "data-kind": element.type, minlength: element.min_length, maxlength: element.max_length };
  const kind = { email_text_input: "email", url_text_input: "url", number_input: "number" }[element.type] || "text";
  const box = element.multiline ? node("textarea", { ...common, rows: 4 }) : node("input", { ...common, type: kind, step: element.is_decimal_allowed ? "any" : null, min: element.min_value, max: element.max_value });
  if (element.initial_value) box.value = element.initial_value;
  box.autofocus = Boolean(element.focus_on_load);
  box.chosen = () => ({ value: box.value || null });
  return box;
}

let serial = 0;

function field(block, element, context, id) {
  if (element.type.endsWith("external_select")) return external(block, element, context, id);
  if (element.type === "checkboxes" || element.type.startsWith("multi_")) return choices(element, id, "checkbox");
  if (element.type === "radio_buttons") return choices(element, id, "radio");
  if (element.type.endsWith("picker")) return picker(element, id);
  if (element.type.endsWith("_select") || element.type === "overflow") return select(element, id);
  return typed(element, id);
}

/** A menu or picker on a message or beside a section: a choice is sent at once. */
export function menu(block, element, context) {
  const control = field(block, element, context, `menu-${(serial += 1)}`);
  control.classList.add("menu");
  control.addEventListener("change", () => {
    const chosen = control.chosen();
    if (Object.values(chosen)[0] === null) return;
    context.act(block, element, chosen, control);
    if (element.type === "overflow") control.value = "";
  });
  return control;
}

/** An input block: its label, its field, its hint, and a place for an error. */
export function input(block, context) {
  const id = `field-${(serial += 1)}`;
  const control = field(block, block.element, context, id);
  control.dataset.blockId = block.block_id;
  if (!block.optional && "required" in control) control.required = true;
  if (block.dispatch_action) control.addEventListener("change", () => context.act(block, block.element, control.chosen(), control));
  return node("div", { class: "field" },
    node("label", { for: id }, plain(block.label.text), block.optional ? node("span", { class: "muted" }, " (optional)") : null),
    control,
    block.hint ? node("small", { class: "muted" }, plain(block.hint.text)) : null,
    node("p", { class: "field-error", role: "alert", hidden: true }));
}

/** The state of a view's form: {block_id: {action_id: {type, …}}}. */
export function state(form, view) {
  const values = {};
  for (const block of view.blocks) {
    const element = block.type === "input" ? block.element : block.accessory;
    if (!element?.action_id || element.type === "button") continue;
    const frame = form.querySelector(`[data-block="${CSS.escape(block.block_id)}"]`);
    const control = frame && [...frame.querySelectorAll(`[data-action="${CSS.escape(element.action_id)}"]`)].find((item) => item.chosen);
    if (control) (values[block.block_id] ||= {})[element.action_id] = { type: element.type, ...control.chosen() };
  }
  return values;
}
