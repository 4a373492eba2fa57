#!/usr/bin/env node
/** Starts a tower by itself (programs/tower.ts), as `selvedge tower` does. */
import './compile-cache.ts';

const [{ runProgram }, { towerCommand }] = await Promise.all([import('./run.ts'), import('./programs/tower.ts')]);
await runProgram(towerCommand());
