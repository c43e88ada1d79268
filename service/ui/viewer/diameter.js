/** A lesion's longest diameter, as voxels of a grid and words. */

/**
 * `ends` and `middle` in voxels with fractions, `text` the length, and `place` on the lesion's
 * largest slice, where the diameter is shown, too, if it was measured on another one.
 */
export function diameterOf(lesion, grid, sourceSlices) {
  const { ends_mm: ends, ends_px: pixels, length_mm: mm, length_px: px } = lesion.longest_diameter;
  const voxels = ends ? ends.map((end) => grid.toVoxel(end)) : pixels.map((end) => end.toReversed());
  const middle = [0, 1, 2].map((axis) => (voxels[0][axis] + voxels[1][axis]) / 2);
  return {
    ends: voxels,
    middle,
    place: onSlice(lesion.largest_slice, middle, grid, sourceSlices),
    measuredOn: lesion.longest_diameter.ends_px[0][0],
    text: mm === null ? `${px.toFixed(1)} px` : `${mm.toFixed(1)} mm`,
  };
}

/** Where uneven slices were spread on a grid of other ones, the slice of the diameter is shown. */
function onSlice(slice, voxel, { sourcePlane }, sourceSlices) {
  if (sourcePlane.size[2] !== sourceSlices) return voxel;
  const [u, v] = sourcePlane.fromVoxel(voxel);
  return sourcePlane.toVoxel([u, v, slice]);
}
