// From plane to plane: what wheel and arrows move. That is the first series and all that goes along
// with it by position; or the prior alone, where it is not linked and was touched last.

import { dot, minus, plus } from "./planes.js";
import { PRIOR } from "./prior.js";
import { downwards } from "./wheel.js";

export class Steps {
  lead = null; // the panel that was touched last

  constructor(viewer) {
    this.viewer = viewer;
  }

  // By its number in the first series.
  goTo(index) {
    const { stack, state } = this.viewer;
    const mm = stack.along[held(index, stack)] - dot(state.position, stack.normal);
    this.moved(state.position.map((v, k) => v + mm * stack.normal[k]));
    return this.viewer.shown();
  }

  // Another place is looked at. A prior that is not linked stays where it is.
  moved(position) {
    const { state, stack } = this.viewer;
    const mm = dot(minus(position, state.position), stack.normal);
    if (!state.prior.linked) state.prior.move(-mm, stack);
    state.position = position;
  }

  // So many planes down, which is where the reader's setting says.
  by(count) {
    return this.to(this.index + count * this.downwards);
  }

  // By its number in what is moved.
  to(index) {
    if (!this.#priorLeads) return this.goTo(index);
    const stack = this.#stack;
    const { prior } = this.viewer.state;
    prior.move(stack.along[held(index, stack)] - dot(this.#place, stack.normal), stack);
    return this.viewer.shown();
  }

  // Of the plane that is shown of what is moved.
  get index() {
    return this.#stack.nearest(this.#place).index;
  }

  // 1 where one down is the plane with the next number, -1 where it is the one before.
  get downwards() {
    return downwards(this.#stack);
  }

  get #place() {
    const { position, prior } = this.viewer.state;
    return this.#priorLeads ? plus(position, prior.shift) : position;
  }

  get #stack() {
    const { stack, state } = this.viewer;
    return this.#priorLeads ? this.priorPanel.opened.stacks[state.direction] : stack;
  }

  get priorPanel() {
    return this.viewer.panels.find((panel) => panel.role === PRIOR);
  }

  get #priorLeads() {
    const { prior } = this.viewer.state;
    return !prior.linked && Boolean(this.priorPanel) && this.lead?.role === PRIOR;
  }

  // Unlinked, the prior is what wheel and arrows move first; linked again, its offset is kept.
  toggleLink() {
    const { prior } = this.viewer.state;
    prior.linked = !prior.linked;
    this.lead = prior.linked ? null : this.priorPanel;
    this.viewer.textsChanged();
  }

  resetPrior() {
    this.viewer.state.prior.reset();
    return this.viewer.shown();
  }
}

const held = (index, { count }) => Math.max(0, Math.min(count - 1, index));
