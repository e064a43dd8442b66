// The message box: slash commands with hints, mentions, history, Enter to send.

import { names, node, plain } from "/static/mrkdwn.js";

const SEND = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 3l15 7-15 7 2.500-7zM5.500 10H11"/></svg>';

/** Turn what was typed into what Slack sends: @name and #channel as references, &<> escaped. */
export function encoded(typed) {
  let text = typed.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const all = [...names.people.values()].flatMap((person) => [[person.name, person.id], [person.real_name, person.id]]);
  all.sort((one, other) => other[0].length - one[0].length);
  for (const [name, id] of all) text = text.replace(new RegExp(`@${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![\\w-])`, "gi"), `<@${id}>`);
  for (const channel of names.channels.values()) {
    if (!channel.partner) text = text.replace(new RegExp(`#${channel.name}(?![\\w-])`, "gi"), `<#${channel.id}|${channel.name}>`);
  }
  return text;
}

/** Build one composer into a form; `send(text)` resolves when the server has taken it. */
export function composer(form, config, { label, send }) {
  const past = [];
  let at = 0;
  const inThread = form.dataset.place === "thread";
  const box = node("textarea", { id: inThread ? "thread-text" : "composer-text", rows: 1, "aria-label": label, placeholder: label, autocomplete: "off", spellcheck: "false", role: "combobox", "aria-expanded": "false", "aria-controls": `${form.id}-hints`, "aria-autocomplete": "list" });
  const hints = node("ul", { class: "hints", id: `${form.id}-hints`, role: "listbox", "aria-label": "Suggestions", hidden: true });
  const button = node("button", { class: "send", type: "submit", "aria-label": "Send" });
  button.innerHTML = SEND;
  form.replaceChildren(hints, node("div", { class: "composer-box" }, box, button));

  let chosen = 0;
  let offers = [];

  function offersFor(value) {
    if (value.startsWith("/") && !inThread) {
      const all = [...config.commands.map(([usage, about]) => ({ fill: `${config.command} ${usage.split(" ")[0]} `, usage: `${config.command} ${usage}`, about })),
        { fill: "/invite @octocert", usage: "/invite @octocert", about: "Let the bot into this channel" }];
      return all.filter((offer) => offer.fill.startsWith(value) && offer.fill.trim() !== value.trimEnd());
    }
    const found = /(^|\s)@([\w.-]*)$/.exec(value);
    if (!found) return [];
    return [...names.people.values()]
      .filter((person) => person.name.startsWith(found[2].toLowerCase()) && person.name !== found[2].toLowerCase())
      .map((person) => ({ fill: `${value.slice(0, value.length - found[2].length)}${person.name} `, usage: `@${person.name}`, about: person.real_name }));
  }

  function draw() {
    hints.hidden = !offers.length;
    box.setAttribute("aria-expanded", String(offers.length > 0));
    hints.replaceChildren(...offers.map((offer, index) =>
      node("li", { id: `${hints.id}-${index}`, role: "option", "aria-selected": String(index === chosen), onmousedown: (event) => { event.preventDefault(); take(index); } },
        node("code", {}, offer.usage), plain(offer.about))));
    if (offers.length) box.setAttribute("aria-activedescendant", `${hints.id}-${chosen}`);
    else box.removeAttribute("aria-activedescendant");
    hints.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  function grow() {
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 180)}px`;
    button.classList.toggle("ready", Boolean(box.value.trim()));
  }

  function changed() {
    offers = offersFor(box.value);
    chosen = 0;
    draw();
    grow();
  }

  function take(index) {
    box.value = offers[index].fill;
    box.focus();
    changed();
  }

  async function submit() {
    const text = box.value.trim();
    if (!text) return;
    past.push(text);
    at = past.length;
    box.value = "";
    changed();
    form.classList.add("busy");
    try {
      await send(text);
    } finally {
      form.classList.remove("busy");
    }
  }

  box.addEventListener("input", changed);
  box.addEventListener("blur", () => { offers = []; draw(); });
  box.addEventListener("keydown", (event) => {
    const { key } = event;
    if (offers.length && (key === "ArrowDown" || key === "ArrowUp")) {
      chosen = (chosen + (key === "ArrowDown" ? 1 : offers.length - 1)) % offers.length;
      draw();
    } else if (offers.length && (key === "Tab" || (key === "Enter" && !event.shiftKey))) take(chosen);
    else if (offers.length && key === "Escape") { offers = []; draw(); event.stopPropagation(); }
    else if (key === "Enter" && !event.shiftKey) submit();
    else if (key === "ArrowUp" && past.length && (!box.value || box.value === past[at])) {
      at = Math.max(0, at - 1);
      box.value = past[at];
      grow();
    } else return;
    event.preventDefault();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  return {
    fill(text) { box.value = text; box.focus(); grow(); },
    label(text) { box.placeholder = text; box.setAttribute("aria-label", text); },
    focus() { box.focus(); },
  };
}
