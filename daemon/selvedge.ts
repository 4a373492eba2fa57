#!/usr/bin/env node
/** Starts the command line (programs/selvedge.ts). */
import './compile-cache.ts';

const { runCommandLine } = await import('./programs/selvedge.ts');
process.exitCode = await runCommandLine(process.argv.slice(2));
