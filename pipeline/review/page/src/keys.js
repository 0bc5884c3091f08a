// Keys, wherever the focus is: what each does is in the page's list of keys.

const RADIUS_MM = 10;
const PAGE = 10;
const DIRECTIONS = { a: "axial", c: "coronal", s: "sagittal" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEPS = {
  ArrowUp: -1,
  ArrowLeft: -1,
  ArrowDown: 1,
  ArrowRight: 1,
  PageUp: -PAGE,
  PageDown: PAGE,
  Home: -Infinity,
  End: Infinity,
};

export class Keys {
  #listening = new AbortController();

  // cursor: the crosshair that arrows move while it is shown.
  constructor(viewer, cursor, actions) {
    Object.assign(this, { viewer, cursor, actions });
    const { signal } = this.#listening;
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  close() {
    this.#listening.abort();
  }

  #key(event) {
    if (event.target.closest?.("input, select, textarea, dialog")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key; // Caps Lock or not
    const commanded = event.ctrlKey || event.metaKey;
    if (commanded && key !== "z") return;
    const act = commanded ? this.actions.undo : this.#actionOf(event, key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  #actionOf(event, key) {
    const { actions } = this;
    const arrow = ARROWS[event.key];
    if (arrow && event.altKey) return this.#moveLast(arrow);
    if (arrow && this.cursor.on) return () => this.cursor.move(...arrow, event.shiftKey);
    if (arrow && event.shiftKey) return this.#pan(arrow);
    const onControl = event.target.closest?.("button, a, summary");
    if ([" ", "Enter"].includes(event.key) && onControl) return null;
    if (/^[1-9]$/.test(event.key)) return () => this.#digit(Number(event.key));
    if (key in DIRECTIONS) return () => actions.direction(DIRECTIONS[key]);
    if (event.key in STEPS) return () => this.#step(STEPS[event.key]);
    return this.#others()[key];
  }

  #others() {
    const { viewer, actions } = this;
    return {
      " ": actions.flip,
      o: actions.original,
      d: actions.difference,
      m: actions.slab,
      n: actions.next,
      p: actions.previous,
      w: actions.worst,
      "?": actions.help,
      l: () => viewer.toggleOverlay("labels"),
      u: () => viewer.toggleOverlay("uncertainty"),
      f: () => viewer.fit(),
      "+": () => viewer.zoom(1.25),
      "=": () => viewer.zoom(1.25),
      "-": () => viewer.zoom(0.8),
      r: () => this.#regionHere(),
      i: actions.invert,
      t: actions.turn,
      h: actions.mirror,
      v: actions.upsideDown,
      e: actions.keyImage,
      j: actions.linkPrior,
      b: actions.threePlanes,
      k: actions.cine,
      y: actions.accept,
      x: actions.reject,
      Enter: () => this.cursor.enter(),
      Backspace: actions.undo,
      Delete: () => this.#removeLast(),
      Escape: () => (this.cursor.on ? this.cursor.leave() : this.#clear()),
    };
  }

  // A mark that waits for its rating gets it; else a window preset.
  #digit(k) {
    if (!this.actions.rate(k)) this.actions.preset(k);
  }

  // While arrows move the crosshair, the page keys go plane by plane.
  async #step(steps) {
    const { viewer, cursor } = this;
    const planes = cursor.on && Number.isFinite(steps) ? Math.sign(steps) : steps;
    await viewer.steps.by(planes);
    cursor.follow();
  }

  #pan([dx, dy]) {
    const { viewer } = this;
    return () => viewer.pan(viewer.active, -40 * dx, -40 * dy);
  }

  #moveLast([dx, dy]) {
    const { viewer } = this;
    if (!viewer.state.marks.last) return null;
    const { row_axis, column_axis } = viewer.seenStack;
    return () => viewer.moveMark([0, 1, 2].map((k) => 2 * (dx * row_axis[k] + dy * column_axis[k])));
  }

  #regionHere() {
    const { viewer } = this;
    if (!this.actions.canUse("region")) return;
    if (viewer.hovered) viewer.activate(viewer.hovered);
    const { cursor, camera } = viewer.state;
    viewer.setRegion(cursor ?? camera.focus ?? viewer.active.centre(), RADIUS_MM);
  }

  // Not in a study in which lesions are marked: one key too many would take all of them away.
  #clear() {
    if (!this.actions.canUse("region")) return;
    this.viewer.state.marks.replace([]);
    this.viewer.marksChanged();
  }

  #removeLast() {
    const { marks } = this.viewer.state;
    marks.remove(marks.list.length - 1);
    this.viewer.marksChanged();
  }
}
