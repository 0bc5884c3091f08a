// How a picture lies on the screen: mirrored left to right first, or not, then turned clockwise by
// so many quarter turns. A plane that is turned is the same plane with other axes, so that every
// place of the patient, and with it marks, letters and distances, follows from them.

export const AS_ACQUIRED = { turns: 0, mirrored: false };

export const turnedOn = ({ turns, mirrored }) => ({ turns: (turns + 1) % 4, mirrored });
// Mirroring what is seen turns back what was turned before.
export const mirrored = (view) => ({ turns: (4 - view.turns) % 4, mirrored: !view.mirrored });
export const upsideDown = (view) => ({ turns: (6 - view.turns) % 4, mirrored: !view.mirrored });

export const viewName = (view) => `${view.turns}${view.mirrored ? "m" : ""}`;
export const viewNamed = (name) => ({ turns: Number(name[0]), mirrored: name.endsWith("m") });

// For a reader: a mirrored picture has the patient's sides where they usually are not.
export function viewText(view) {
  const turn = view.turns ? ` turned ${90 * view.turns}°` : "";
  return (view.mirrored ? " mirrored" : "") + turn;
}

const shifted = (places, axis, mm) => places.map((at) => at.map((v, k) => v + axis[k] * mm));
const negated = (axis) => axis.map((v) => -v);

function acrossMirrored({ columns, row_axis, spacing_mm, origins_mm, order }) {
  return {
    origins_mm: shifted(origins_mm, row_axis, (columns - 1) * spacing_mm[1]),
    row_axis: negated(row_axis),
    order: { ...order, start: order.start + (columns - 1) * order.across, across: -order.across },
  };
}

// Clockwise: the first column, from the bottom up, becomes the first row.
function quarterTurned({ rows, columns, row_axis, column_axis, spacing_mm, origins_mm, order }) {
  return {
    rows: columns,
    columns: rows,
    origins_mm: shifted(origins_mm, column_axis, (rows - 1) * spacing_mm[0]),
    row_axis: negated(column_axis),
    column_axis: row_axis,
    spacing_mm: [spacing_mm[1], spacing_mm[0]],
    order: { start: order.start + (rows - 1) * order.down, across: -order.down, down: order.across },
  };
}

const known = new WeakMap(); // stack -> name of a view -> the stack as it is seen so

// The planes as they are seen. Their normal stays, so that places along it do. order: where each
// pixel lies among those of the stack that was turned.
export function turnedStack(stack, view) {
  const name = viewName(view);
  if (!known.has(stack)) known.set(stack, new Map());
  const views = known.get(stack);
  if (!views.has(name)) views.set(name, made(stack, view));
  return views.get(name);
}

function made(stack, view) {
  const order = { start: 0, across: 1, down: stack.columns };
  const seen = Object.assign(Object.create(Object.getPrototypeOf(stack)), stack, { order });
  if (view.mirrored) Object.assign(seen, acrossMirrored(seen));
  for (let turn = 0; turn < view.turns; turn++) Object.assign(seen, quarterTurned(seen));
  return seen;
}

// The pixels of a plane in the order in which they are seen.
export function reordered(numbers, { rows, columns, order }) {
  if (order.start === 0 && order.across === 1) return numbers;
  const seen = new numbers.constructor(numbers.length);
  for (let row = 0, to = 0; row < rows; row++) {
    let from = order.start + row * order.down;
    for (let column = 0; column < columns; column++, from += order.across) seen[to++] = numbers[from];
  }
  return seen;
}
