/** Whom a dialer may leave unverified (spec 4.4), and how the command line says whom it trusts. */
import t from 'tap';
import { mayBeUnverified } from '../../../src/identity/server-rule.ts';
import { parseTls, trustOf } from '../../../src/enroll/preflight.ts';

t.test('an IP address or a name with a dot is always verified; a single-label name may be left unverified', async (t) => {
  for (const host of ['tower', 'tower-1', 'selvedge_tower', 'localhost']) t.ok(mayBeUnverified(host), host);
  for (const host of ['127.0.0.1', '::1', 'fe80::1%eth0', '[::1]', 'tower.example', 'tower.', '.', '', 'a:1', 'tower\u3002example', '1.1'])
    t.notOk(mayBeUnverified(host), host);
});

t.test('only under the flag, and where the name allows it, nothing is verified', async (t) => {
  const at = (host: string) => ({ host, port: 443 });
  t.strictSame(trustOf(at('tower'), 'root', true), { kind: 'unverified' });
  t.strictSame(trustOf(at('tower'), 'root'), { kind: 'root' });
  t.strictSame(trustOf(at('192.0.2.1'), 'system', true), { kind: 'system' });
  t.strictSame(trustOf(at('tower.example'), 'root', true), { kind: 'root' });
  t.throws(() => trustOf(at('tower'), 'unverified'), { code: 'argument_invalid' });
});

t.test('a trust is a word, a file of roots, or a fingerprint, and nothing else', async (t) => {
  t.strictSame(parseTls('roots:/etc/roots.pem'), { kind: 'roots', file: '/etc/roots.pem' });
  t.match(parseTls(`sha256:${'ab'.repeat(32)}`), { kind: 'certificate' });
  for (const text of ['', 'roots:', 'none', 'sha256:ab']) t.throws(() => parseTls(text), { code: 'argument_invalid' }, text);
});
