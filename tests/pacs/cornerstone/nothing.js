// In place of modules that are Node's own and that nothing here calls.
export default {};
export const create = () => {};
