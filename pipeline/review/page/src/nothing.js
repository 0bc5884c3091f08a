// Stands for an XML writer below the viewer library that nothing here calls.
export const create = undefined;
