// One case on the screen: toolbar, panels, and beside them figures, facts and the decision.

import { Controls, TOOLS } from "./controls.js";
import { source } from "./data.js";
import { $, colourScale, make, setText, showMessage, showTemplate } from "./dom.js";
import { LAID_OVER } from "./overlay.js";
import { named } from "./panel.js";
import { Measurements } from "./measurements.js";
import { DIFFERENCE_LIMIT_HU, differenceColour } from "./planes.js";
import { editPresets, presets } from "./presets.js";
import { Viewer } from "./viewer.js";
import { downwards } from "./wheel.js";

const SLAB_MM = 10;
const CINE_MS = 100; // from plane to plane
const USUAL_WINDOW = { HEAD: 5, BRAIN: 5, CHEST: 2, LUNG: 1 };

export class CaseView {
  // series: by role; side: fills what stands below the figures; go: to the next case; cid: of the
  // case that measurements are saved with, if they can be.
  constructor(series, { side, go, changes, roles, cid, blinded = false }) {
    Object.assign(this, { series, side, go, changes, cid, blinded });
    this.both = Boolean(series.original && series.denoised);
    this.firstRoles = roles ?? (this.both ? ["original", "denoised"] : [Object.keys(series)[0]]);
  }

  async open() {
    showTemplate("case-view");
    this.viewer = new Viewer($("#panels"), this.series, {
      roles: this.firstRoles,
      onChange: () => this.#changed(),
    });
    this.#toolbar();
    this.#scale();
    await this.viewer.open();
    this.#layout();
    this.measurements = new Measurements(this.viewer, this.cid);
    this.controls = new Controls(this.viewer, this.#actions());
    this.#pressed("#tools", "window");
    this.#directions();
    this.#preset(this.#usual());
    this.side($("#panel-side"));
    await this.measurements.load();
    $("#main").focus();
  }

  close() {
    clearInterval(this.cine);
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
      ...TOOLS.map((tool) => this.#button(tool, () => this.#tool(tool), tool)),
    );
    $("#cine").addEventListener("click", () => this.#toggleCine());
    $("#invert").addEventListener("click", () => this.#invert());
    $("#undo").addEventListener("click", () => this.measurements.undo());
    $("#help-button").addEventListener("click", () => $("#help").showModal());
  }

  #invert() {
    this.viewer.toggleInvert();
    $("#invert").setAttribute("aria-pressed", String(this.viewer.state.invert));
  }

  // Through all planes, downwards, and from the last to the first again.
  #toggleCine() {
    clearInterval(this.cine);
    this.cine = this.cine ? null : setInterval(() => this.#playOn(), CINE_MS);
    $("#cine").setAttribute("aria-pressed", String(Boolean(this.cine)));
  }

  async #playOn() {
    if (this.playing) return; // planes come slower than they are asked for
    this.playing = true;
    const { viewer } = this;
    const { count } = viewer.stack;
    const next = viewer.index + downwards(viewer.stack);
    await viewer.goTo((next + count) % count).finally(() => (this.playing = false));
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

  #tool(tool) {
    this.controls.tool = tool;
    this.#pressed("#tools", tool);
  }

  #layout() {
    const names = Object.keys(this.series).filter((role) => !LAID_OVER.includes(role));
    const layouts =
      names.length > 1
        ? [
            ["side by side", names.slice(0, 2)],
            ["one", [names[0]]],
          ]
        : [];
    if (this.both && !this.blinded)
      layouts.splice(1, 0, ["+ difference", ["original", "denoised", "difference"]]);
    if (names.length > 2)
      layouts.push(["all", [...names, ...(this.both ? ["difference"] : [])].slice(0, 4)]);
    const buttons = layouts.map(([name, roles]) =>
      this.#button(name, () => this.#show([...roles]), name),
    );
    $("#layout").replaceChildren(...buttons);
  }

  #show(roles) {
    this.before = null;
    return this.viewer.setRoles(roles);
  }

  // The first panel that shows one of the two shows the other.
  #flip() {
    const [one, other] = this.blinded ? ["left", "right"] : ["original", "denoised"];
    const k = this.viewer.roles.findIndex((role) => role === one || role === other);
    if (k < 0 || !this.series[one] || !this.series[other]) return;
    this.viewer.setRole(k, this.viewer.roles[k] === one ? other : one);
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
    this.#show(
      roles.includes("difference")
        ? ["original", "denoised"]
        : ["original", "denoised", "difference"],
    );
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
    return this.viewer.goTo(slice);
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
    const { window, cursor } = this.viewer.state;
    this.#typed("#centre", window.centre);
    this.#typed("#width", window.width);
    const k = presets().findIndex(
      ([, centre, width]) => centre === window.centre && width === window.width,
    );
    this.#pressed("#presets", k + 1);
    this.#latest("cursor", () => this.#cursor(cursor));
    this.#latest("figures", async () => this.measurements?.show($("#figures")));
  }

  #typed(name, value) {
    const input = $(name);
    if (document.activeElement !== input && input.value !== String(value)) input.value = value;
  }

  // Figures are read from planes that may be under way: one at a time, the last one counts.
  #latest(name, act) {
    this.waiting ??= {};
    this.running ??= {};
    this.waiting[name] = act;
    if (this.running[name]) return;
    const next = async () => {
      this.running[name] = true;
      while (this.waiting[name]) {
        const now = this.waiting[name];
        this.waiting[name] = null;
        await now().catch(() => {});
      }
      this.running[name] = false;
    };
    next();
  }

  async #cursor(position) {
    const out = $("#cursor");
    if (!out) return;
    if (!position) return setText(out, "HU under the cursor");
    const values = await this.viewer.valuesAt(position);
    const lines = values.map(
      ({ role, hu }) =>
        `${named(role)}: ${hu === null ? "not measured" : `${signed(hu, role)} HU`}`,
    );
    setText(out, [`${position.map((v) => v.toFixed(1)).join(", ")} mm (LPS)`, ...lines].join("\n"));
  }

}

const signed = (hu, role) => (role === "difference" && hu > 0 ? "+" : "") + Number(hu.toFixed(2));
