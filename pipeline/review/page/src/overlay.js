// A label map, or the uncertainty of each voxel, laid over a panel, half transparent; off and on
// with L and U.

import { numbersOf, openSeries, seriesOf } from "./images.js";
import { minus, plus } from "./planes.js";

const OPACITY = 110; // of 255
const COLOURS = [
  [255, 82, 82],
  [64, 196, 255],
  [255, 215, 64],
  [105, 240, 174],
  [224, 64, 251],
  [255, 171, 64],
  [100, 255, 218],
  [140, 158, 255],
  [238, 255, 65],
  [255, 128, 171],
];

// Roles that are laid over panels and have none of their own.
export const LAID_OVER = ["labels", "uncertainty"];
// The uncertainty that has the last colour, HU; less is more transparent.
export const UNCERTAINTY_LIMIT_HU = 100;

// Red, green, blue and opacity, 0 to 255, of a standard deviation in HU.
export function uncertaintyColour(hu) {
  const share = Math.min(1, hu / UNCERTAINTY_LIMIT_HU);
  return [255, Math.round(210 * (1 - share)), 0, Math.round(150 * share)];
}

export const colourOf = (label) => COLOURS[(label - 1) % COLOURS.length];

export class Overlay {
  #picture = document.createElement("canvas");
  #shown = "";
  #drawn = false;
  #under = null; // the planes of the picture, and which of them it is

  constructor(canvas) {
    this.canvas = canvas;
  }

  // What is laid over the panel's plane: series is the role's, if any is to be seen. Drawn again
  // by place() when the picture moves.
  async show(panel, role, series) {
    const { direction, index, stack, shift } = panel.plane;
    const sid = series?.sid;
    const name = sid ? `${sid}|${direction}|${index}|${shift}` : "";
    if (name && name !== this.#shown) {
      await openSeries(sid);
      const { stacks, hu_step } = seriesOf(sid);
      const over = stacks[direction];
      const { index: at, off } = over.nearest(minus(stack.origins_mm[index], shift));
      if (off > 0.05 || over.size !== stack.size) return this.#clear();
      const { numbers } = await numbersOf(sid, direction, at, { mm: 0, mode: "mip" });
      if (panel.plane.index !== index || panel.plane.direction !== direction) return;
      this.#under = { over, at };
      const colour = (number) =>
        role === "labels" ? [...colourOf(number), OPACITY] : uncertaintyColour(number * hu_step);
      this.#colour(numbers, over, colour);
    }
    this.#shown = name;
    this.place(panel);
  }

  #colour(numbers, { rows, columns }, colour) {
    this.#picture.width = columns;
    this.#picture.height = rows;
    const context = this.#picture.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < numbers.length; i++) {
      if (numbers[i] > 0) image.data.set(colour(numbers[i]), 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  #clear() {
    this.#shown = "";
    this.canvas.hidden = true;
  }

  place(panel) {
    if (!this.#shown && !this.#drawn) return; // most series have none
    const { width, height } = panel.pixels.canvas;
    Object.assign(this.canvas, { width, height });
    this.#drawn = Boolean(this.#shown);
    this.canvas.hidden = !this.#drawn;
    if (!this.#shown) return;
    const { stack, index, shift } = panel.plane;
    const { over, at } = this.#under;
    const corner = (column, row) => {
      const place = plus(over.position(at, column - 0.5, row - 0.5), shift);
      return panel.pixels.canvasOf(stack.pixel(index, place), panel.plane);
    };
    const [x, y] = corner(0, 0);
    const [ax, ay] = corner(1, 0);
    const [bx, by] = corner(0, 1);
    const context = this.canvas.getContext("2d");
    context.setTransform(ax - x, ay - y, bx - x, by - y, x, y);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#picture, 0, 0);
  }
}
