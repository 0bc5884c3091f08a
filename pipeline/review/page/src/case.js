// One case on the screen: toolbar, panels, and beside them figures, facts and the decision.

import { Cine } from "./cine.js";
import { Controls } from "./controls.js";
import { $, clearMessage, colourScale, READING, setText, showMessage, showTemplate } from "./dom.js";
import { Hung } from "./hung.js";
import { KeyCursor } from "./keycursor.js";
import { KeyImages } from "./keyimages.js";
import { Keys } from "./keys.js";
import { Latest } from "./latest.js";
import { Measurements } from "./measurements.js";
import { DIFFERENCE_LIMIT_HU, differenceColour } from "./planes.js";
import { presets } from "./presets.js";
import { readout } from "./readout.js";
import { button, fillToolbar, press, pressed, showPrior, typed } from "./toolbar.js";
import { mirrored, turnedOn, upsideDown } from "./turned.js";
import { Viewer } from "./viewer.js";
import { ANSWERED } from "./worklist.js";

const SLAB_MM = 10;
const USUAL_WINDOW = { HEAD: 5, BRAIN: 5, CHEST: 2, LUNG: 1 };

export class CaseView {
  // series: by role; side: fills what stands below the figures; go: to the next case; cid: of the
  // case that measurements are saved with, if they can be; tools: those to choose from, all by
  // default; marking: makes what keeps the marks of a viewer, measurements by default.
  constructor(series, { side, go, changes, cid, tools, marking, blinded = false }) {
    Object.assign(this, { series, side, go, changes, cid, tools, blinded });
    this.marking = marking ?? ((viewer) => new Measurements(viewer, cid));
    this.both = Boolean(series.original && series.denoised);
    this.latest = new Latest();
  }

  async open() {
    showTemplate("case-view");
    this.hung = new Hung(this.series, this);
    const { roles, directions } = this.hung.first;
    this.viewer = new Viewer($("#panels"), this.series, {
      roles: [...roles],
      directions,
      onChange: () => this.#changed(),
    });
    this.cine = new Cine(this.viewer);
    const actions = this.#actions();
    fillToolbar(this.viewer, actions, this);
    this.#scale();
    await this.viewer.open();
    this.hung.start(this.viewer);
    this.measurements = this.marking(this.viewer);
    this.keyImages = new KeyImages(this.viewer, this.cid);
    this.cursor = new KeyCursor(this.viewer, () => this.controls.tool);
    this.controls = new Controls(this.viewer, actions);
    this.keys = new Keys(this.viewer, this.cursor, actions);
    this.#tool(this.tools?.[0] ?? "window");
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
    this.keys?.close();
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
      rate: (k) => this.measurements?.rate?.(k),
      direction: (name) => this.#direction(name),
      flip: () => this.hung.flip(),
      original: () => this.hung.onlyOriginal(),
      difference: () => this.hung.toggleDifference(),
      slab: () => this.#cycleSlab(),
      next: () => this.go(1),
      previous: () => this.go(-1),
      worst: () => this.#worst(),
      help: () => $("#help").showModal(),
      undo: () => this.measurements.undo(),
      invert: () => this.#invert(),
      cine: () => this.#toggleCine(),
      tool: (name) => this.#tool(name),
      choose: (name, byKeyboard) => this.#choose(name, byKeyboard),
      canUse: (name) => !this.tools || this.tools.includes(name),
      leaveCursor: () => this.cursor.leave(),
      turn: () => this.viewer.turn(turnedOn),
      mirror: () => this.viewer.turn(mirrored),
      upsideDown: () => this.viewer.turn(upsideDown),
      keyImage: () => this.keyImages.toggle(),
      linkPrior: () => this.#linkPrior(),
      threePlanes: () => this.hung.toggleThreePlanes(),
      accept: () => $("#accept")?.click(),
      reject: () => this.#reject(),
    };
  }

  #invert() {
    this.viewer.toggleInvert();
    press($("#invert"), this.viewer.state.invert);
  }

  #toggleCine() {
    this.cine.toggle();
    press($("#cine"), this.cine.plays);
  }

  #linkPrior() {
    if (!this.viewer.steps.priorPanel) return showMessage("no prior study is shown");
    this.viewer.steps.toggleLink();
    const { linked } = this.viewer.state.prior;
    showMessage(linked ? "" : "wheel and arrows move the prior alone, until it is linked again");
  }

  // A rejection needs a reason: without one the key leads to where it is written.
  #reject() {
    const reason = $("aside textarea");
    if (!reason) return;
    if (reason.value.trim()) return $("#reject").click();
    reason.focus();
    showMessage("write a reason, then press Reject");
  }

  #preset(k) {
    const found = presets()[k - 1];
    if (found) this.viewer.setWindow(found[1], found[2]);
  }

  #directions() {
    const { stacks } = this.viewer.reference;
    const buttons = Object.entries(stacks).map(([each, stack]) =>
      button(stack.name, () => this.#direction(stack.name), each),
    );
    $("#directions").replaceChildren(...buttons);
    pressed("#directions", this.viewer.state.direction);
    pressed("#layout", this.hung.name);
  }

  #direction(name) {
    const found = Object.entries(this.viewer.reference.stacks).find(
      ([, stack]) => stack.name === name,
    );
    if (!found) return showMessage(`these slices give no ${name} planes`);
    showMessage(found[0] === "slices" ? "" : READING);
    pressed("#directions", found[0]);
    return this.viewer.setDirection(found[0]).then(() => clearMessage(READING));
  }

  #choose(tool, byKeyboard) {
    this.controls.chosen = true;
    this.#tool(tool);
    if (!byKeyboard) return;
    $("#main").focus();
    this.cursor.start();
  }

  #tool(tool) {
    this.cursor.drop();
    this.controls.tool = tool;
    pressed("#tools", tool);
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
    typed("#centre", window.centre);
    typed("#width", window.width);
    const k = presets().findIndex(
      ([, centre, width]) => centre === window.centre && width === window.width,
    );
    pressed("#presets", k + 1);
    pressed("#directions", direction);
    pressed("#layout", this.hung.name);
    showPrior(this.viewer);
    this.keyImages?.show($("#key-images"));
    this.latest.do("cursor", () => this.#cursor(cursor, cursorDirection));
    this.latest.do("figures", async () => this.measurements?.show($("#figures")));
  }

  async #cursor(position, direction) {
    const text = await readout(this.viewer, position, direction);
    const out = $("#cursor");
    if (out) setText(out, text);
  }
}
