#!/usr/bin/env node
/** Starts a node's daemon (programs/selvedged.ts). */
import './compile-cache.ts';

const [{ runProgram }, { selvedgedCommand }] = await Promise.all([import('./run.ts'), import('./programs/selvedged.ts')]);
await runProgram(selvedgedCommand());
