// The confirmation before a dangerous button, and the modals that the bot opens.

import { blocksNode } from "/static/blocks.js";
import { state } from "/static/inputs.js";
import { node, text } from "/static/mrkdwn.js";

/** Ask as the bot's `confirm` object says; resolves to true or false. */
export function confirmed(confirm) {
  const dialog = document.getElementById("confirm");
  return new Promise((resolve) => {
    const yes = node("button", { class: `button ${confirm.style === "danger" ? "danger" : "primary"}`, value: "yes" }, text(confirm.confirm, "span"));
    const no = node("button", { class: "button", value: "no" }, text(confirm.deny, "span"));
    dialog.replaceChildren(
      node("form", { method: "dialog" },
        node("h2", { id: "confirm-title" }, text(confirm.title, "span")), text(confirm.text), node("div", { class: "dialog-foot" }, no, yes)));
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
    yes.focus();
  });
}

let shown = ""; // id and hash of the view that is on the screen

/** Show the top view of a person's stack, or nothing. `post` talks to the server. */
export function showView(views, post, me) {
  const dialog = document.getElementById("modal");
  const view = views[views.length - 1];
  const key = view ? `${me}:${view.id}:${view.hash}` : "";
  if (key === shown) return;
  shown = key;
  if (!view) {
    if (dialog.open) dialog.close();
    return;
  }
  const context = {
    key: view.id,
    act: async (block, element, chosen) => {
      if (element.confirm && !(await confirmed(element.confirm))) return;
      await post("act", { view_id: view.id, block_id: block.block_id, action_id: element.action_id, chosen, values: state(form, view) });
    },
    suggest: async (block, element, query) =>
      (await post("suggest", { view_id: view.id, block_id: block.block_id, action_id: element.action_id, query })).options || [],
  };
  const leave = () => post("close-view", { view_id: view.id });
  const submit = view.submit ? node("button", { class: "button primary", type: "submit" }, text(view.submit, "span")) : null;
  const failure = node("p", { class: "field-error", role: "alert", hidden: true });
  const form = node("form", { class: "modal-form", novalidate: true },
    node("header", { class: "dialog-head" },
      node("h2", { id: "modal-title" }, text(view.title, "span")),
      node("button", { class: "icon-button", type: "button", "aria-label": "Close", onclick: leave }, "✕")),
    node("div", { class: "dialog-body" }, blocksNode(view.blocks, context)),
    failure,
    node("div", { class: "dialog-foot" }, node("button", { class: "button", type: "button", onclick: leave }, view.close ? text(view.close, "span") : "Close"), submit));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!form.reportValidity()) return;
    submit.disabled = true;
    submit.classList.add("busy");
    const answer = await post("submit", { view_id: view.id, values: state(form, view) });
    submit.disabled = false;
    submit.classList.remove("busy");
    for (const place of form.querySelectorAll(".field .field-error")) place.hidden = true;
    for (const [block, message] of Object.entries(answer.response?.errors || {})) {
      const place = form.querySelector(`[data-block="${CSS.escape(block)}"] .field-error`);
      if (place) [place.textContent, place.hidden] = [message, false];
    }
    failure.hidden = !answer.error;
    if (answer.error) failure.textContent = `We had some trouble connecting. Try again? (${answer.error})`;
  });
  dialog.replaceChildren(form);
  dialog.oncancel = (event) => {
    event.preventDefault();
    leave();
  };
  if (!dialog.open) dialog.showModal();
}
