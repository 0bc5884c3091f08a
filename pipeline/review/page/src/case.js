// One case on the screen: toolbar, panels, and beside them figures, facts and the decision.

import { Cine } from "./cine.js";
import { Controls, TOOLS } from "./controls.js";
import { source } from "./data.js";
import { $, colourScale, make, setText, showMessage, showTemplate } from "./dom.js";
import { firstHanging, hangings, keepHanging, THREE_PLANES, usualHanging } from "./hanging.js";
import { KeyImages } from "./keyimages.js";
import { Latest } from "./latest.js";
import { Measurements } from "./measurements.js";
import { DIFFERENCE_LIMIT_HU, differenceColour } from "./planes.js";
import { editPresets, presets } from "./presets.js";
import { readout } from "./readout.js";
import { mirrored, turnedOn, upsideDown } from "./turned.js";
import { Viewer } from "./viewer.js";
import { ANSWERED } from "./worklist.js";

const SLAB_MM = 10;
const USUAL_WINDOW = { HEAD: 5, BRAIN: 5, CHEST: 2, LUNG: 1 };

export class CaseView {
  // series: by role; side: fills what stands below the figures; go: to the next case; cid: of the
  // case that measurements are saved with, if they can be.
  constructor(series, { side, go, changes, cid, blinded = false }) {
    Object.assign(this, { series, side, go, changes, cid, blinded });
    this.both = Boolean(series.original && series.denoised);
    this.latest = new Latest();
  }

  async open() {
    showTemplate("case-view");
    const { name, roles, directions } = firstHanging(this.series, this);
    this.viewer = new Viewer($("#panels"), this.series, {
      roles: [...roles],
      directions,
      onChange: () => this.#changed(),
    });
    this.cine = new Cine(this.viewer);
    this.#toolbar();
    this.#scale();
    await this.viewer.open();
    this.hung = name;
    this.#layout();
    this.measurements = new Measurements(this.viewer, this.cid);
    this.keyImages = new KeyImages(this.viewer, this.cid);
    this.controls = new Controls(this.viewer, this.#actions());
    this.#pressed("#tools", "window");
    this.#directions();
    this.#preset(this.#usual());
    this.side($("#panel-side"));
    await Promise.all([this.measurements.load(), this.keyImages.load()]);
    this.#whenAnswered();
    $("#main").focus();
  }

  // What could not be shown while the server was gone.
  #whenAnswered() {
    this.listening = new AbortController();
    const again = () => this.viewer.shown();
    document.addEventListener(ANSWERED, again, { signal: this.listening.signal });
  }

  close() {
    this.cine?.stop();
    this.listening?.abort();
    this.controls?.close();
    this.viewer?.close();
  }

  #usual() {
    const part = Object.values(this.series)[0].facts?.BodyPartExamined ?? "";
    return USUAL_WINDOW[part.toUpperCase()] ?? 3;
  }

  #actions() {
    return {
      preset: (k) => this.#preset(k),
      direction: (name) => this.#direction(name),
      flip: () => this.#flip(),
      original: () => this.#onlyOriginal(),
      difference: () => this.#toggleDifference(),
      slab: () => this.#cycleSlab(),
      next: () => this.go(1),
      previous: () => this.go(-1),
      worst: () => this.#worst(),
      help: () => $("#help").showModal(),
      undo: () => this.measurements.undo(),
      invert: () => this.#invert(),
      cine: () => this.#toggleCine(),
      tool: (name) => this.#tool(name),
      turn: () => this.viewer.turn(turnedOn),
      mirror: () => this.viewer.turn(mirrored),
      upsideDown: () => this.viewer.turn(upsideDown),
      keyImage: () => this.keyImages.toggle(),
      threePlanes: () => this.#toggleThreePlanes(),
      accept: () => $("#accept")?.click(),
      reject: () => this.#reject(),
    };
  }

  #toolbar() {
    this.#presetButtons();
    $("#edit-presets").addEventListener("click", () => editPresets(() => this.#presetButtons()));
    const typed = () =>
      this.viewer.setWindow(Number($("#centre").value), Number($("#width").value));
    $("#centre").addEventListener("change", typed);
    $("#width").addEventListener("change", typed);
    const slab = () =>
      this.viewer.setSlab(Math.max(0, Number($("#slab").value)), $("#slab-mode").value);
    $("#slab").addEventListener("change", slab);
    $("#slab-mode").addEventListener("change", slab);
    $("#tools").replaceChildren(
      ...TOOLS.map((tool) => this.#button(tool, () => this.#chosen(tool), tool)),
    );
    $("#turn").addEventListener("click", () => this.viewer.turn(turnedOn));
    $("#mirror").addEventListener("click", () => this.viewer.turn(mirrored));
    $("#upside-down").addEventListener("click", () => this.viewer.turn(upsideDown));
    $("#key-image").addEventListener("click", () => this.keyImages.toggle());
    $("#key-image").hidden = !this.cid || !source.writable;
    $("#cine").addEventListener("click", () => this.#toggleCine());
    $("#invert").addEventListener("click", () => this.#invert());
    $("#undo").addEventListener("click", () => this.measurements.undo());
    $("#help-button").addEventListener("click", () => $("#help").showModal());
  }

  #invert() {
    this.viewer.toggleInvert();
    $("#invert").setAttribute("aria-pressed", String(this.viewer.state.invert));
  }

  #toggleCine() {
    this.cine.toggle();
    $("#cine").setAttribute("aria-pressed", String(this.cine.plays));
  }

  // A rejection needs a reason: without one the key leads to where it is written.
  #reject() {
    const reason = $("aside textarea");
    if (!reason) return;
    if (reason.value.trim()) return $("#reject").click();
    reason.focus();
    showMessage("write a reason, then press Reject");
  }

  #button(text, act, value) {
    return make(
      "button",
      { type: "button", "data-value": value, "aria-pressed": "false", onclick: act },
      text,
    );
  }

  #presetButtons() {
    const buttons = presets().map(([name], k) =>
      this.#button(`${k + 1} ${name}`, () => this.#preset(k + 1), k + 1),
    );
    $("#presets").replaceChildren(...buttons);
  }

  #pressed(group, value) {
    for (const button of document.querySelectorAll(`${group} button`)) {
      const pressed = String(button.dataset.value === String(value));
      if (button.getAttribute("aria-pressed") !== pressed)
        button.setAttribute("aria-pressed", pressed);
    }
  }

  #preset(k) {
    const found = presets()[k - 1];
    if (found) this.viewer.setWindow(found[1], found[2]);
  }

  #directions() {
    const { stacks } = this.viewer.reference;
    const { direction } = this.viewer.state;
    const buttons = Object.entries(stacks).map(([each, stack]) =>
      this.#button(stack.name, () => this.#direction(stack.name), each),
    );
    $("#directions").replaceChildren(...buttons);
    this.#pressed("#directions", direction);
    this.#pressed("#layout", this.hung);
  }

  #direction(name) {
    const found = Object.entries(this.viewer.reference.stacks).find(
      ([, stack]) => stack.name === name,
    );
    if (!found) return showMessage(`these slices give no ${name} planes`);
    showMessage(found[0] === "slices" ? "" : "reading all slices…");
    this.#pressed("#directions", found[0]);
    return this.viewer.setDirection(found[0]).then(() => showMessage(""));
  }

  #chosen(tool) {
    this.controls.chosen = true;
    this.#tool(tool);
  }

  #tool(tool) {
    this.controls.tool = tool;
    this.#pressed("#tools", tool);
  }

  #layout() {
    const buttons = hangings(this.series, this).map((hanging) => {
      const choose = () => {
        if (!this.blinded) keepHanging(hanging.name);
        return this.#show(hanging);
      };
      return this.#button(hanging.name, choose, hanging.name);
    });
    $("#layout").replaceChildren(...buttons);
  }

  async #show(hanging) {
    const { name, roles, directions } = hanging;
    this.before = null;
    this.hung = name;
    if (!directions.length) this.flat = hanging; // to which three planes lead back
    if (directions.length) showMessage("reading all slices…");
    await this.viewer.setRoles([...roles], directions);
    if (directions.length) showMessage("");
  }

  #named(name) {
    return hangings(this.series, this).find((each) => each.name === name);
  }

  #toggleThreePlanes() {
    const three = Boolean(this.viewer.panels[0].fixed);
    const flat = this.flat ?? usualHanging(this.series, this);
    return this.#show(three ? flat : this.#named(THREE_PLANES));
  }

  // The first panel that shows one of the two shows the other; all of three planes do.
  #flip() {
    const [one, other] = this.blinded ? ["left", "right"] : ["original", "denoised"];
    const { roles, panels } = this.viewer;
    const found = roles.findIndex((role) => role === one || role === other);
    if (found < 0 || !this.series[one] || !this.series[other]) return;
    const to = roles[found] === one ? other : one;
    const flipped = panels[found].fixed ? roles.map((_, k) => k) : [found];
    flipped.forEach((k) => this.viewer.setRole(k, to));
  }

  #onlyOriginal() {
    if (!this.series.original) return showMessage("the original is not here");
    if (this.before) {
      const before = this.before;
      this.before = null;
      return before.forEach((role, k) => this.viewer.setRole(k, role));
    }
    this.before = [...this.viewer.roles];
    this.before.forEach((_, k) => this.viewer.setRole(k, "original"));
  }

  #toggleDifference() {
    if (!this.both || this.blinded) return;
    const roles = this.viewer.roles;
    this.#show(this.#named(roles.includes("difference") ? "side by side" : "+ difference"));
  }

  #cycleSlab() {
    const { mm, mode } = this.viewer.state.slab;
    const next = !mm ? [SLAB_MM, "mip"] : mode === "mip" ? [mm, "average"] : [0, "mip"];
    $("#slab").value = next[0];
    $("#slab-mode").value = next[1];
    this.viewer.setSlab(...next);
  }

  async #worst() {
    const places = (await this.changes?.()) ?? [];
    if (!places.length) return showMessage("not measured yet");
    this.worstShown = ((this.worstShown ?? -1) + 1) % Math.min(10, places.length);
    const { slice, block_hu } = places[this.worstShown];
    showMessage(`slice ${slice + 1}: a block changed by ${block_hu} HU`);
    return this.viewer.goToSlice(slice);
  }

  #scale() {
    if (this.blinded || !this.both) return;
    const colour = (share) => differenceColour((2 * share - 1) * DIFFERENCE_LIMIT_HU);
    const ends = [`−${DIFFERENCE_LIMIT_HU}`, "0", `+${DIFFERENCE_LIMIT_HU} HU`];
    $("#scale").replaceChildren(
      ...colourScale("Denoised − original", "colours of the difference", colour, ends),
    );
  }

  #changed() {
    const { window, cursor, cursorDirection, direction } = this.viewer.state;
    this.#typed("#centre", window.centre);
    this.#typed("#width", window.width);
    const k = presets().findIndex(
      ([, centre, width]) => centre === window.centre && width === window.width,
    );
    this.#pressed("#presets", k + 1);
    this.#pressed("#directions", direction);
    this.#pressed("#layout", this.hung);
    this.keyImages?.show($("#key-images"));
    this.latest.do("cursor", () => this.#cursor(cursor, cursorDirection));
    this.latest.do("figures", async () => this.measurements?.show($("#figures")));
  }

  #typed(name, value) {
    const input = $(name);
    if (document.activeElement !== input && input.value !== String(value)) input.value = value;
  }

  async #cursor(position, direction) {
    const text = await readout(this.viewer, position, direction);
    const out = $("#cursor");
    if (out) setText(out, text);
  }
}
