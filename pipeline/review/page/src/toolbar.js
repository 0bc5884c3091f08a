// The case's toolbar: buttons that say which of them is chosen, presets, planes, tools.

import { TOOLS } from "./controls.js";
import { source } from "./data.js";
import { $, make } from "./dom.js";
import { editPresets, presets } from "./presets.js";
import { mirrored, turnedOn, upsideDown } from "./turned.js";

export function button(text, act, value) {
  return make(
    "button",
    { type: "button", "data-value": value, "aria-pressed": "false", onclick: act },
    text,
  );
}

export function pressed(group, value) {
  for (const each of document.querySelectorAll(`${group} button`)) press(each, each.dataset.value === String(value));
}

export function press(element, on) {
  if (element.getAttribute("aria-pressed") !== String(on)) element.setAttribute("aria-pressed", String(on));
}

// actions: those of the case's keys. tools: the names of those that can be chosen.
export function fillToolbar(viewer, actions, { cid, tools = TOOLS }) {
  presetButtons(actions);
  const click = (id, act) => $(id).addEventListener("click", act);
  click("#edit-presets", () => editPresets(() => presetButtons(actions)));
  const typed = () => viewer.setWindow(Number($("#centre").value), Number($("#width").value));
  const slab = () => viewer.setSlab(Math.max(0, Number($("#slab").value)), $("#slab-mode").value);
  for (const id of ["#centre", "#width"]) $(id).addEventListener("change", typed);
  for (const id of ["#slab", "#slab-mode"]) $(id).addEventListener("change", slab);
  $("#tools").replaceChildren(
    // A click of the keyboard has no detail: the crosshair is then shown at once.
    ...tools.map((tool) => button(tool, (event) => actions.choose(tool, event.detail === 0), tool)),
  );
  click("#turn", () => viewer.turn(turnedOn));
  click("#mirror", () => viewer.turn(mirrored));
  click("#upside-down", () => viewer.turn(upsideDown));
  click("#key-image", actions.keyImage);
  $("#key-image").hidden = !cid || !source.writable;
  click("#cine", actions.cine);
  click("#invert", actions.invert);
  click("#undo", actions.undo);
  click("#prior-link", actions.linkPrior);
  click("#prior-reset", () => viewer.steps.resetPrior());
  click("#help-button", actions.help);
}

function presetButtons({ preset }) {
  const buttons = presets().map(([name], k) => button(`${k + 1} ${name}`, () => preset(k + 1), k + 1));
  $("#presets").replaceChildren(...buttons);
}

// A typed number follows what is shown, but not while it is being typed.
export function typed(name, value) {
  const input = $(name);
  if (document.activeElement !== input && input.value !== String(value)) input.value = value;
}

// Whether the prior's planes go along with the others', and how far from them.
export function showPrior(viewer) {
  const { prior } = viewer.state;
  const group = $("#prior-group");
  group.hidden = !viewer.steps.priorPanel;
  if (group.hidden) return;
  press($("#prior-link"), prior.linked);
  $("#prior-reset").disabled = !prior.shifted;
}
