/**
 * What was compiled of the programs is kept for the next start, which takes half the time then: they are TypeScript and hundreds of small files. It is kept beside the
 * packages, where nobody may write who could not change the programs themselves; a process that may not write there does without. Import it before all else.
 */
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/selvedge', import.meta.url)));
