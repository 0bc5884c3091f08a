// The one place where three kinds of pixels meet. Nothing else on the page asks for
// devicePixelRatio, gives a panel's canvas its size, or converts with the viewer library.
//
//   CSS pixels: what the page is laid out in; of mouse events and of the SVG
//   canvas pixels: of the canvas' own bitmap, one for each pixel of the screen
//   image pixels: column and row of a plane, whole numbers at the centres of its pixels
//
// The library (5.14.0, drawn by the CPU) gives its canvas one pixel per CSS pixel, yet converts
// as if it had devicePixelRatio of them. So the canvas gets its size here, and what the library
// calls canvas coordinates is multiplied by the ratio that it divided by.

// Browsers lay out in 64ths of a pixel of the screen; numbers from them carry less than this.
const LAYOUT_STEPS = 64;
const ROUNDING = 1e-2;

const ratio = () => window.devicePixelRatio || 1;

// A place of the page, CSS pixels, on the screen's grid, to which browsers move what they draw.
const snapped = (css) => Math.floor(Math.round(css * ratio() * LAYOUT_STEPS) / LAYOUT_STEPS + 0.5);

// Where an element is drawn, in pixels of the screen, from the corner of the page's window.
export function deviceBox(element) {
  const { left, top, right, bottom } = element.getBoundingClientRect();
  return {
    left: snapped(left),
    top: snapped(top),
    width: snapped(right) - snapped(left),
    height: snapped(bottom) - snapped(top),
  };
}

// Call `act` when an element may need another number of canvas pixels: after a change of its
// size, a zoom of the browser, a move to another screen. Returns what ends this.
export function watchPixels(element, act) {
  const stopping = new AbortController();
  const sizes = new ResizeObserver(act);
  try {
    sizes.observe(element, { box: "device-pixel-content-box" });
  } catch {
    sizes.observe(element); // Safari knows CSS pixels alone
  }
  const awaitRatio = () => {
    const same = matchMedia(`(resolution: ${ratio()}dppx)`);
    const changed = () => {
      act();
      awaitRatio();
    };
    same.addEventListener("change", changed, { once: true, signal: stopping.signal });
  };
  awaitRatio();
  return () => {
    sizes.disconnect();
    stopping.abort();
  };
}

export class PixelMapping {
  // viewport: the library's; element: what its canvas fills.
  constructor(viewport, element) {
    this.viewport = viewport;
    this.element = element;
  }

  get canvas() {
    return this.viewport.getCanvas();
  }

  // The canvas is drawn over its element's box, whatever the size of its bitmap: until it is
  // fitted after a zoom, what is seen there is enlarged or reduced.
  #enlarged() {
    const { left, top, width, height } = deviceBox(this.element);
    return { left, top, across: this.canvas.width / width, down: this.canvas.height / height };
  }

  get canvasPixelsPerCssPixel() {
    return ratio() * this.#enlarged().across;
  }

  get middle() {
    return [this.canvas.width / 2, this.canvas.height / 2];
  }

  // One canvas pixel for each pixel of the screen. A new size empties the canvas.
  fitCanvas() {
    const { canvas } = this;
    const { width, height } = deviceBox(this.element);
    if (!width || !height || (canvas.width === width && canvas.height === height)) return;
    Object.assign(canvas, { width, height });
  }

  // The canvas point at a point of the page's window.
  canvasPointAt(clientX, clientY) {
    const { left, top, across, down } = this.#enlarged();
    return [(clientX * ratio() - left) * across, (clientY * ratio() - top) * down];
  }

  // The centre of the canvas pixel there: the one that a reader sees under the cursor.
  canvasPixelAt(clientX, clientY) {
    return this.canvasPointAt(clientX, clientY).map((along) => Math.floor(along + ROUNDING) + 0.5);
  }

  // A canvas point in CSS pixels from the element's corner.
  cssOf([x, y]) {
    const { left, top, across, down } = this.#enlarged();
    const box = this.element.getBoundingClientRect();
    return [(x / across + left) / ratio() - box.left, (y / down + top) / ratio() - box.top];
  }

  // [column, row] of a canvas point. plane: { stack, index } of what is drawn.
  imageOf(point, { stack, index }) {
    const [column, row] = stack.pixel(index, this.#worldOf(point));
    return [column - 0.5, row - 0.5];
  }

  // The canvas point of a column and row.
  canvasOf([column, row], { stack, index }) {
    return this.viewport
      .worldToCanvas(fromCorner(column, row, stack, index))
      .map((at) => at * ratio());
  }

  // Draw a column and row in the middle of the canvas, at so many canvas pixels per mm.
  aim([column, row], canvasPixelsPerMm, { stack, index }) {
    this.viewport.setCamera({ scale: canvasPixelsPerMm * Math.min(...stack.spacing_mm) });
    const wanted = fromCorner(column, row, stack, index);
    const found = this.#worldOf(this.middle);
    // Where the library takes the middle to be is off by a part of a pixel at fractional ratios.
    const { focalPoint } = this.viewport.getCamera();
    this.viewport.setCamera({ focalPoint: focalPoint.map((v, k) => v + wanted[k] - found[k]) });
  }

  // A canvas point as the library's position, which it counts from a pixel's corner.
  #worldOf([x, y]) {
    return [...this.viewport.canvasToWorld([x / ratio(), y / ratio()])];
  }
}

const fromCorner = (column, row, stack, index) => stack.position(index, column + 0.5, row + 0.5);
