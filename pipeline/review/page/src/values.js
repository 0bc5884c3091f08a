// What the images of a case hold: HU at a place, and within a region.

import { differenceOf, numbersOf, seriesOf } from "./images.js";
import { isPadding, plus, regionFigures } from "./planes.js";

// HU of each image at a position of a plane: by role; null beside it or where nothing was measured.
export async function valuesAt(viewer, position, direction = viewer.state.direction) {
  const found = await planesAt(viewer, direction, viewer.state.position);
  return found.map(({ role, hu, stack, index, shift }) => {
    const [column, row] = stack.pixel(index, plus(position, shift)).map(Math.round);
    const inside = column >= 0 && row >= 0 && column < stack.columns && row < stack.rows;
    const value = inside && hu ? hu(row * stack.columns + column) : NaN;
    return { role, hu: Number.isNaN(value) ? null : value };
  });
}

// What a region holds in each series, on its own plane whatever is shown.
export async function figuresIn(viewer, { direction, points }) {
  const found = await planesAt(viewer, direction, points[0]);
  return found.map(({ role, hu, stack, index, shift }) => {
    const there = points.map((point) => plus(point, shift));
    return hu ? { role, ...regionFigures(hu, stack, index, there) } : { role, count: 0 };
  });
}

// The planes at a position as functions from pixel number to HU, one for each role shown, and
// always the original and the denoised where there are both, and the uncertainty. None where a
// series has no plane there.
async function planesAt(viewer, direction, position) {
  const { series, slab } = viewer.state;
  const roles = new Set(viewer.roles);
  if (series.original && series.denoised)
    ["original", "denoised", "difference"].forEach((role) => roles.add(role));
  if (series.uncertainty) roles.add("uncertainty");
  const panel = viewer.panels[0];
  return Promise.all(
    [...roles].map(async (role) => {
      const sids = panel.sid(role).split("-minus-");
      const { stacks, hu_step } = seriesOf(sids[0]);
      const stack = stacks[direction];
      const shift = viewer.state.prior.of(role);
      const { index, off } = stack.nearest(plus(position, shift));
      const at = { role, stack, index, shift };
      if (off > stack.widest / 2 + 0.05) return { ...at, hu: null };
      if (sids.length === 2) {
        const { hu } = await differenceOf(sids, direction, index, slab);
        return { ...at, hu: hu && ((i) => hu[i]) };
      }
      const { numbers, fault } = await numbersOf(sids[0], direction, index, slab);
      const value = (i) => (isPadding(numbers[i]) ? NaN : numbers[i] * hu_step);
      return { ...at, hu: fault ? null : value };
    }),
  );
}
