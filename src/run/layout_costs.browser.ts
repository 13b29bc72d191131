// Browsers count nothing (see passes/layout_plan.browser.ts).
export const gpuLayoutCosts = undefined;
