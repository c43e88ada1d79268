/** A lesion's longest diameter, as voxels of a grid and words. */

/** `ends` and `middle` in voxels with fractions, `text` the length. */
export function diameterOf(lesion, grid) {
  const { ends_mm: ends, ends_px: pixels, length_mm: mm, length_px: px } = lesion.longest_diameter;
  const voxels = ends ? ends.map((end) => grid.toVoxel(end)) : pixels.map((end) => end.toReversed());
  return {
    ends: voxels,
    middle: [0, 1, 2].map((axis) => (voxels[0][axis] + voxels[1][axis]) / 2),
    text: mm === null ? `${px.toFixed(1)} px` : `${mm.toFixed(1)} mm`,
  };
}
