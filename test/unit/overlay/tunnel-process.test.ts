/** Starting the tunnel: in a session of its own with its output in a file, and what is said of one that cannot be started or ends at once. */
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { TunnelProcess } from '../../../src/overlay/tunnel-process.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';

/** A program of these lines in place of selvedge-tunnel. */
function setUp(t: Test, lines: string) {
  const folder = freshDirectory(t);
  const program = join(folder, 'program');
  writeFileSync(program, `#!/bin/sh\n${lines}\n`);
  chmodSync(program, 0o700);
  const logPath = join(folder, 'tunnel.log');
  const tunnel = new TunnelProcess({ program, socketPath: '/s', carryPath: '/c', logPath });
  return { tunnel, logPath, log: () => readFileSync(logPath, 'utf8') };
}

async function until<T>(look: () => Promise<T | null> | T | null): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

t.test('it is told its sockets, leads a session of its own, and is started once', async (t) => {
  const { tunnel, log, logPath } = setUp(t, 'echo "$@"; echo $$; cut -d" " -f6 /proc/$$/stat; exec sleep 60');
  await tunnel.start();
  const [args, pid, session] = await until(() => (log().split('\n').length > 3 ? log().split('\n') : null));
  t.teardown(() => process.kill(Number(pid), 'SIGKILL'));
  t.equal(args, 'run --socket /s --carry /c');
  t.equal(session, pid, 'no signal to the daemon’s terminal or group reaches it');
  t.equal(statSync(logPath).mode & 0o777, 0o600);
  t.equal(await tunnel.ended(), null);
  await tunnel.start();
  t.equal(log().split('\n').length, 4, 'no second one');
});

t.test('one that ends at once is named with its last words, and can be started again', async (t) => {
  const { tunnel, log } = setUp(t, 'echo "error: no CAP_NET_ADMIN" >&2; exit 3');
  await tunnel.start();
  const why = await until(() => tunnel.ended());
  t.match(why, { code: 'tunnel_unreachable', message: /ended with exit code 3: error: no CAP_NET_ADMIN/ });
  await tunnel.start();
  await until(() => (log().split('\n').length === 3 ? true : null));
});

t.test('a program that is not there is named, and its log stays small', async (t) => {
  const { tunnel, logPath } = setUp(t, 'exit 0');
  writeFileSync(logPath, Buffer.alloc(limits.tunnel_log_bytes_max + 1));
  await tunnel.start();
  t.equal(statSync(logPath).size, 0);
  const missing = new TunnelProcess({ program: '/no/such/program', socketPath: '/s', carryPath: '/c', logPath });
  await rejectsWith(t, missing.start(), 'tunnel_missing');
  t.equal(await missing.ended(), null);
});
