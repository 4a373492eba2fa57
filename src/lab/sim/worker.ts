/** A thread that runs one simulation after the other, as it is told. */
import { parentPort } from 'node:worker_threads';
import { type SimOptions, simulate } from './simulate.ts';

parentPort?.on('message', (options: SimOptions) => {
  // What is thrown here is a bug of the simulator: it ends the thread, and the run with it.
  void simulate(options).then((result) => parentPort?.postMessage(result));
});
