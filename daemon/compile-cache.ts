/**
 * What was compiled of the programs is kept for the next start, which takes half the time then: they are TypeScript and hundreds of small files. It is kept beside the
 * packages, where nobody may write who could not change the programs themselves; a process that may not write there, or finds that others may, does without. A disk that is full
 * leaves what does not match its own digest, which is not loaded. Import it before all else.
 */
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { ownDirectory } from './own-directory.ts';

const directory = fileURLToPath(new URL('../node_modules/.cache/selvedge', import.meta.url));
if (ownDirectory(directory)) enableCompileCache(directory);
