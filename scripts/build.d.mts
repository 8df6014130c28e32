/** Types of build.mjs, which runs before there is anything that could strip them. */
export function buildAll(): boolean;
