import { defineConfig } from "vitest/config"

/** CI asks for a report of its own, to print the one line that it ends with. */
const report = process.env["KEYFOLD_TEST_REPORT"]

export default defineConfig({
  resolve: { conditions: ["keyfold-source"] },
  ssr: { resolve: { conditions: ["keyfold-source"] } },
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    // Most of the time is spent waiting for servers, leases and restarts.
    maxWorkers: 4,
    globalSetup: ["test/servers/global-setup.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]]
  }
})
