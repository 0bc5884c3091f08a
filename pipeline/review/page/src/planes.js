// Planes as numbers: geometry, slabs, differences, figures within a region. No screen here.

export const DIFFERENCE_LIMIT_HU = 100;

let padding = -32768;

export function setPadding(value) {
  padding = value;
}

export const isPadding = (number) => number === padding;

export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const plus = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const norm = (a) => Math.hypot(...a);
export const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

// The planes of one direction, ready for questions of place.
export class Stack {
  constructor(facts) {
    Object.assign(this, facts);
    this.size = this.rows * this.columns;
    this.normal = cross(this.row_axis, this.column_axis);
    this.along = this.origins_mm.map((origin) => dot(origin, this.normal));
    const steps = this.along.slice(1).map((place, i) => Math.abs(place - this.along[i]));
    this.step = steps.length ? Math.min(...steps) : 1;
    this.widest = steps.length ? Math.max(...steps) : 1;
  }

  // The plane nearest to a patient position, and how far off it is.
  nearest(position) {
    const place = dot(position, this.normal);
    let best = 0;
    for (let i = 1; i < this.count; i++) {
      if (Math.abs(this.along[i] - place) < Math.abs(this.along[best] - place)) best = i;
    }
    return { index: best, off: Math.abs(this.along[best] - place) };
  }

  // The planes of a slab of so many mm, centred on one of them.
  slab(index, thickness) {
    const half = thickness / 2 + 1e-6;
    const found = [];
    for (let i = 0; i < this.count; i++) {
      if (Math.abs(this.along[i] - this.along[index]) <= half) found.push(i);
    }
    return found;
  }

  // (column, row), counted from pixel centres, of a patient position.
  pixel(index, position) {
    const from = minus(position, this.origins_mm[index]);
    return [
      dot(from, this.row_axis) / this.spacing_mm[1],
      dot(from, this.column_axis) / this.spacing_mm[0],
    ];
  }

  position(index, column, row) {
    const origin = this.origins_mm[index];
    return [0, 1, 2].map(
      (k) =>
        origin[k] +
        this.row_axis[k] * column * this.spacing_mm[1] +
        this.column_axis[k] * row * this.spacing_mm[0],
    );
  }
}

// A place moved along a stack's normal to one of its planes.
export function onPlane(position, { along, normal }, index) {
  const off = along[index] - dot(position, normal);
  return position.map((v, k) => v + off * normal[k]);
}

// One plane of several: their maximum or their mean, padding left out.
export function projected(planes, mode) {
  if (planes.length === 1) return planes[0];
  return mode === "average" ? averaged(planes) : maximum(planes);
}

function maximum(planes) {
  const result = Int16Array.from(planes[0]); // padding is the smallest number
  for (const plane of planes.slice(1)) {
    for (let i = 0; i < result.length; i++) if (plane[i] > result[i]) result[i] = plane[i];
  }
  return result;
}

function averaged(planes) {
  const size = planes[0].length;
  const sum = new Float32Array(size);
  const count = new Uint16Array(size);
  for (const plane of planes) {
    for (let i = 0; i < size; i++) {
      if (plane[i] !== padding) {
        sum[i] += plane[i];
        count[i]++;
      }
    }
  }
  return Int16Array.from(sum, (total, i) => (count[i] ? Math.round(total / count[i]) : padding));
}

// Denoised minus original in HU; NaN where either has no measurement.
export function difference(original, denoised, originalStep, denoisedStep) {
  const result = new Float32Array(original.length);
  for (let i = 0; i < result.length; i++) {
    const absent = original[i] === padding || denoised[i] === padding;
    result[i] = absent ? NaN : denoised[i] * denoisedStep - original[i] * originalStep;
  }
  return result;
}

// The report's scale: blue where denoising made it darker, orange where brighter, dark at 0.
const STOPS = [
  [165, 220, 255],
  [63, 155, 232],
  [15, 17, 20],
  [240, 112, 48],
  [255, 200, 144],
];
const COLOURS = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[below].map((from, k) =>
    Math.round(from + (place - below) * (STOPS[below + 1][k] - from)),
  );
});

export const differenceColour = (hu) => COLOURS[differenceLevel(hu)];

function differenceLevel(hu) {
  const share = (hu + DIFFERENCE_LIMIT_HU) / (2 * DIFFERENCE_LIMIT_HU);
  return Math.round(Math.min(1, Math.max(0, share)) * 255);
}

export function coloured(differenceHu) {
  const rgb = new Uint8ClampedArray(differenceHu.length * 3);
  for (let i = 0; i < differenceHu.length; i++) {
    if (Number.isNaN(differenceHu[i])) continue;
    const colour = COLOURS[differenceLevel(differenceHu[i])];
    rgb[3 * i] = colour[0];
    rgb[3 * i + 1] = colour[1];
    rgb[3 * i + 2] = colour[2];
  }
  return rgb;
}

// Edges of a region may fall on a pixel's centre: it counts, whatever the last digit says.
const ON_EDGE = 1 + 1e-9;

// Figures of the pixels whose centres lie within an ellipse: mean, standard deviation (of the
// population, as numpy.std), least and most; padding is left out and counted. hu: from pixel number,
// NaN for padding. points: centre and ends of both half axes, LPS mm.
export function regionFigures(hu, stack, index, points) {
  const origin = stack.origins_mm[index];
  const [centre, ...ends] = points.map((point) => {
    const from = minus(point, origin);
    return [dot(from, stack.row_axis), dot(from, stack.column_axis)];
  });
  const axes = ends.map((end) => [end[0] - centre[0], end[1] - centre[1]]);
  const [a, b] = axes.map(([x, y]) => [x / (x * x + y * y), y / (x * x + y * y)]);
  const [rowMm, columnMm] = stack.spacing_mm;
  const reach = [0, 1].map((k) => Math.abs(axes[0][k]) + Math.abs(axes[1][k]));
  const span = (middle, far, step, count) => [
    Math.max(0, Math.floor((middle - far) / step)),
    Math.min(count - 1, Math.ceil((middle + far) / step)),
  ];
  const [firstRow, lastRow] = span(centre[1], reach[1], rowMm, stack.rows);
  const [firstColumn, lastColumn] = span(centre[0], reach[0], columnMm, stack.columns);
  const inside = [];
  let excluded = 0;
  for (let r = firstRow; r <= lastRow; r++) {
    for (let c = firstColumn; c <= lastColumn; c++) {
      const [x, y] = [c * columnMm - centre[0], r * rowMm - centre[1]];
      if (Math.hypot(x * a[0] + y * a[1], x * b[0] + y * b[1]) > ON_EDGE) continue;
      const value = hu(r * stack.columns + c);
      if (Number.isNaN(value)) excluded++;
      else inside.push(value);
    }
  }
  return { ...summary(inside), excluded };
}

function summary(values) {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const least = values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return { mean, sd: Math.sqrt(squares / count), least, most, count };
}

const LETTERS = [
  ["R", "L"],
  ["A", "P"],
  ["I", "S"],
];

// The patient's side that an axis points to: L for +x, P for +y, S for +z.
export function sideOf(axis) {
  const strongest = axis.map(Math.abs).indexOf(Math.max(...axis.map(Math.abs)));
  return LETTERS[strongest][axis[strongest] > 0 ? 1 : 0];
}
