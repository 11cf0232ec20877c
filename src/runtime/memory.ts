import type { Runtime } from "../ports.ts"
export declare function memory(): Runtime
