import type { Runtime } from "../ports.ts"
export declare function embedded(dir?: string): Runtime
