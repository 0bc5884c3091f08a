// A label map laid over a panel: each label a colour, half transparent, off and on with L.

import { numbersOf, openSeries, seriesOf } from "./images.js";

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

export const colourOf = (label) => COLOURS[(label - 1) % COLOURS.length];

export class Overlay {
  #picture = document.createElement("canvas");
  #shown = "";
  #drawn = false;

  constructor(canvas) {
    this.canvas = canvas;
  }

  // The labels of the panel's plane; drawn again by place() when the picture moves.
  async show(panel, sid, visible) {
    const { direction, index, stack } = panel.plane;
    const name = visible ? `${sid}|${direction}|${index}` : "";
    if (name && name !== this.#shown) {
      await openSeries(sid);
      const labels = seriesOf(sid).stacks[direction];
      const { index: at, off } = labels.nearest(stack.origins_mm[index]);
      if (off > 0.05 || labels.size !== stack.size) return this.#clear();
      const { numbers } = await numbersOf(sid, direction, at, { mm: 0, mode: "mip" });
      if (panel.plane.index !== index || panel.plane.direction !== direction) return;
      this.#colour(numbers, stack);
    }
    this.#shown = name;
    this.place(panel);
  }

  #colour(numbers, { rows, columns }) {
    this.#picture.width = columns;
    this.#picture.height = rows;
    const context = this.#picture.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < numbers.length; i++) {
      if (numbers[i] > 0) image.data.set([...colourOf(numbers[i]), OPACITY], 4 * i);
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
    const corner = (column, row) => panel.pixels.canvasOf([column - 0.5, row - 0.5], panel.plane);
    const [x, y] = corner(0, 0);
    const [ax, ay] = corner(1, 0);
    const [bx, by] = corner(0, 1);
    const context = this.canvas.getContext("2d");
    context.setTransform(ax - x, ay - y, bx - x, by - y, x, y);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#picture, 0, 0);
  }
}
