// The viewer of one case, or of one pair of a reader study: linked panels and their state.

import { RenderingEngine } from "@cornerstonejs/core";
import { openSeries, prefetch, seriesOf } from "./images.js";
import { ellipsePoints, Marks, moved } from "./marks.js";
import { Panel } from "./panel.js";
import { onPlane, plus } from "./planes.js";
import { PriorOffset } from "./prior.js";
import { Steps } from "./steps.js";
import { AS_ACQUIRED, turnedStack } from "./turned.js";
import { figuresIn, valuesAt } from "./values.js";

const AHEAD = 12; // planes fetched before they are asked for

let engine;

export class Viewer {
  panels = [];
  hovered = null; // the panel below the mouse

  constructor(host, series, { roles, directions, onChange }) {
    this.host = host;
    this.onChange = onChange ?? (() => {});
    this.state = {
      series,
      direction: "slices",
      position: [0, 0, 0],
      window: { centre: 40, width: 400 },
      camera: { zoom: 1, focus: null },
      slab: { mm: 0, mode: "mip" },
      invert: false,
      view: AS_ACQUIRED,
      marks: new Marks(),
      keyCursor: null, // a place that arrow keys move
      prior: new PriorOffset(),
      keyPlaces: [], // the first pixel of each slice that is a key image
      cursor: null,
      cursorDirection: "slices",
      panels: [],
      overlay: "labels", // one of LAID_OVER, or ""
    };
    this.roles = roles;
    this.directions = directions;
    this.steps = new Steps(this);
  }

  async open() {
    const sids = Object.entries(this.state.series).filter(([role]) => role !== "labels");
    await Promise.all(sids.map(([, { sid }]) => openSeries(sid)));
    engine?.destroy();
    engine = new RenderingEngine("review");
    const middle = this.reference.stacks.slices;
    const index = Math.floor(middle.count / 2);
    this.state.position = middle.position(index, (middle.columns - 1) / 2, (middle.rows - 1) / 2);
    await this.setRoles(this.roles, this.directions);
  }

  close() {
    this.panels.forEach((panel) => panel.close());
    engine?.destroy();
    engine = undefined;
  }

  get reference() {
    return seriesOf(Object.values(this.state.series)[0].sid);
  }

  get stack() {
    return this.reference.stacks[this.state.direction];
  }

  // The same as it lies on the screen.
  get seenStack() {
    return turnedStack(this.stack, this.state.view);
  }

  get index() {
    return this.stack.nearest(this.state.position).index;
  }

  // Lay out a panel for each role; directions: those of the panels, if they do not follow the
  // state's, which is then that of the panel that was touched last.
  setRoles(roles, directions = []) {
    this.roles = roles;
    this.hovered = this.steps.lead = null;
    this.panels.forEach((panel, k) => {
      panel.close();
      engine.disableElement(`panel-${k}`);
    });
    this.host.replaceChildren(...roles.map(() => panelElement()));
    this.host.dataset.count = roles.length;
    const { state } = this;
    if (directions.length || this.panels[0]?.fixed) state.camera = { zoom: 1, focus: null };
    state.panels = []; // while the new ones are made
    this.panels = roles.map((role, k) => {
      const shows = { role, direction: directions[k], state };
      return new Panel(engine, this.host.children[k], `panel-${k}`, shows);
    });
    state.panels = this.panels;
    this.#markActive();
    return this.shown();
  }

  setRole(k, role) {
    this.panels[k].role = role;
    this.roles[k] = role;
    return this.shown();
  }

  // Where planes of several directions are shown: the panel that keys, wheel and marks are for.
  activate(panel) {
    this.steps.lead = panel;
    if (!panel.fixed || panel.fixed === this.state.direction) return;
    this.state.direction = panel.fixed;
    this.#markActive();
    this.onChange();
  }

  // The panel that keys are for.
  get active() {
    const { direction } = this.state;
    return this.panels.find((panel) => panel.fixed === direction) ?? this.panels[0];
  }

  #markActive() {
    for (const panel of this.panels) {
      const active = Boolean(panel.fixed) && panel.fixed === this.state.direction;
      panel.element.classList.toggle("active", active);
    }
  }

  async shown() {
    await Promise.all(this.panels.map((panel) => panel.show()));
    if (this.panels[0]?.fixed) this.panels.forEach((panel) => panel.drawMarks());
    this.onChange();
    this.#ahead();
  }

  #ahead() {
    const { position, slab, prior } = this.state;
    for (const panel of this.panels) {
      const { direction } = panel;
      const stack = panel.opened.stacks[direction];
      const reach = AHEAD + Math.ceil(slab.mm / stack.step / 2);
      const { index } = stack.nearest(plus(position, prior.of(panel.role)));
      for (const sid of panel.sid().split("-minus-")) {
        for (const to of [index + reach, index - reach]) prefetch(sid, direction, to);
      }
    }
  }

  // Go to a plane by its number in the first series; the others follow by position.
  goTo(index) {
    return this.steps.goTo(index);
  }

  // By its number among the slices, whatever planes are shown.
  async goToSlice(number) {
    if (this.state.direction !== "slices") await this.setDirection("slices");
    return this.goTo(number);
  }

  setWindow(centre, width) {
    this.state.window = { centre: Math.round(centre), width: Math.max(1, Math.round(width)) };
    this.#looksChanged();
  }

  #looksChanged() {
    this.panels.forEach((panel) => panel.applyWindow());
    this.textsChanged();
  }

  textsChanged() {
    this.panels.forEach((panel) => panel.plane && panel.drawTexts());
    this.onChange();
  }

  // Show what lies at a place of the patient, in every direction.
  moveTo(position) {
    this.steps.moved(position);
    return this.shown();
  }

  // turn: one of mirrored, turnedOn and upsideDown.
  turn(turn) {
    this.state.view = turn(this.state.view);
    return this.shown();
  }

  setDirection(direction) {
    const there = this.panels.find((panel) => panel.fixed === direction);
    if (there) return this.activate(there);
    this.state.direction = direction;
    this.state.camera = { zoom: 1, focus: null };
    return this.shown();
  }

  toggleInvert() {
    this.state.invert = !this.state.invert;
    this.#looksChanged();
  }

  setSlab(mm, mode) {
    this.state.slab = { mm, mode };
    return this.shown();
  }

  // Lay labels or uncertainty over the panels, in place of what is there, or take them off.
  toggleOverlay(role) {
    this.state.overlay = this.state.overlay === role ? "" : role;
    return Promise.all(this.panels.map((panel) => panel.drawOverlay()));
  }

  fit() {
    this.state.camera = { zoom: 1, focus: null };
    this.panels.forEach((panel) => panel.applyCamera());
  }

  zoom(factor) {
    const { camera } = this.state;
    camera.zoom = Math.max(0.5, Math.min(20, camera.zoom * factor));
    this.panels.forEach((panel) => panel.applyCamera());
  }

  // Move the picture by so many CSS pixels of a panel.
  pan(panel, dx, dy) {
    this.centreOn(panel.middleAfter(dx, dy));
  }

  // Show a place in the middle of every panel.
  centreOn(place) {
    this.state.camera.focus = place;
    this.panels.forEach((each) => each.applyCamera());
  }

  // What lay at one point of the page's window comes to lie at another, enlarged.
  pinch(panel, from, to, factor) {
    const held = panel.pointAt(...from);
    if (!held) return;
    this.zoom(factor);
    const { left, top } = panel.canvasHost.getBoundingClientRect();
    const [x, y] = panel.cssOf(held);
    this.pan(panel, to[0] - left - x, to[1] - top - y);
  }

  // A mark on the plane that is shown, which can be undone.
  addMark(kind, points) {
    this.state.marks.add({ kind, direction: this.state.direction, points });
    this.marksChanged();
  }

  // A round region of so many mm, on the plane that is shown.
  setRegion(centre, radius) {
    const { stack } = this;
    this.addMark("region", ellipsePoints(this.onPlane(centre), stack, radius, radius));
  }

  // A place as it lies on the plane that is shown.
  onPlane(position) {
    return onPlane(position, this.stack, this.index);
  }

  // Draw the last mark so in place of how it is.
  redrawMark(points) {
    this.state.marks.redraw(points);
    this.marksChanged();
  }

  moveMark(by) {
    const { last } = this.state.marks;
    if (last) this.redrawMark(moved(last, by));
  }

  marksChanged() {
    this.panels.forEach((panel) => panel.drawMarks());
    this.onChange();
  }

  // panel: the one that the cursor is over.
  setCursor(position, panel) {
    this.state.cursor = position;
    this.state.cursorDirection = panel?.direction ?? this.state.direction;
    this.onChange();
  }

  valuesAt(position, direction) {
    return valuesAt(this, position, direction);
  }

  regionFigures(mark) {
    return figuresIn(this, mark);
  }
}

function panelElement() {
  const template = document.getElementById("panel");
  return template.content.firstElementChild.cloneNode(true);
}
