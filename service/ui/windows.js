/**
 * The usual CT windows, in Hounsfield units. The first is the one a study opens with; radiologists
 * read liver lesions in a narrow window.
 */

export const WINDOWS = [
  { name: "liver", label: "Liver", center: 60, width: 160 },
  { name: "soft tissue", label: "Soft tissue", center: 40, width: 400 },
  { name: "lung", label: "Lung", center: -600, width: 1500 },
  { name: "bone", label: "Bone", center: 400, width: 1800 },
];
