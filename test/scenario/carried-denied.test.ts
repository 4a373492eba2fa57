/**
 * Spec 6.1, for packets of app networks: while a channel carries them, a policy that denies class `vpn_packet` comes to hold. The way ends at both ends, nothing passes any
 * more, both know why; once the policy is gone packets pass again. Other classes notice nothing.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { NodeIdentity } from '../../src/base/ids.ts';
import { FlowCarrier } from '../../src/overlay/flow-carrier.ts';
import type { Judge } from '../../src/policy/judge.ts';
import type { PolicyRule } from '../../src/policy/rules.ts';
import { systemRandom, systemTimers } from '../../src/transport/system.ts';
import { CarrySocket } from '../fixtures/carry-socket.ts';
import { policy } from '../unit/peering/hosts.ts';
import { alpha, answered, beta, dial, isEstablished, judgeOf, overEach, type ScenarioHost, startHost, viewWith } from './hosts.ts';

t.setTimeout(60_000);

const CARRIED = { wants: true, hears: false };
const packet = (letter: string): string => `\0\x40${letter.repeat(64)}`;

/** The carrier of a host, and the tunnel that it carries for. */
async function carrying(t: Test, { host, until }: ScenarioHost, self: NodeIdentity, peer: NodeIdentity) {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  const socket = new CarrySocket(join(folder, 'carry'));
  await socket.listen();
  let changed = (): void => {};
  const carrier = new FlowCarrier({
    self: self.node,
    mesh: host.mesh,
    socketPath: socket.path,
    timers: systemTimers,
    random: systemRandom,
    log: () => undefined,
  });
  carrier.onChange(() => changed());
  carrier.follow(new Set([peer.node]));
  await until(isEstablished);
  carrier.channelsAre(host.mesh.status());
  t.teardown(() => {
    carrier.close();
    socket.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const has = async (wanted: () => boolean): Promise<void> => {
    while (!wanted()) await new Promise<void>((resolve) => (changed = resolve));
  };
  return { carrier, socket, has };
}

overEach(t, 'a policy that denies vpn_packet ends what is carried at both ends with channel_class_denied, and only that', async (t, transport, authority) => {
  const judges = [judgeOf(alpha), judgeOf(beta)] as const;
  const a = await startHost(t, { self: alpha, authority, transport, policy: judges[0] });
  const b = await startHost(t, { self: beta, authority, transport, policy: judges[1] });
  const rule = (policies: readonly PolicyRule[]): void => {
    const ends: readonly (readonly [NodeIdentity, Judge, ScenarioHost])[] = [
      [alpha, judges[0], a],
      [beta, judges[1], b],
    ];
    for (const [self, judge, { host }] of ends) {
      judge.follow(viewWith(self, policies));
      host.mesh.revalidate();
    }
  };
  dial(a, b, beta);
  const [near, far] = [await carrying(t, a, alpha, beta), await carrying(t, b, beta, alpha)];
  const kept = a.host.mesh.open(beta.node, 'input', 'messages', 'echo');
  t.ok(await answered(kept));
  near.carrier.say(beta.node, CARRIED);
  await far.has(() => far.carrier.stateOf(alpha.node)?.peer?.wants === true);
  await near.socket.until(() => near.socket.streams.length === 1);
  near.socket.streams[0]?.socket.write(packet('x'));
  await far.socket.until(() => far.socket.streams[0]?.text === packet('x'));

  rule([policy('no-packets', { effect: 'deny', classes: ['vpn_packet'] })]);
  for (const { carrier, has, peer } of [
    { ...near, peer: beta.node },
    { ...far, peer: alpha.node },
  ]) {
    await has(() => carrier.denialOf(peer) !== null);
    t.match(carrier.denialOf(peer), { code: 'channel_class_denied', message: /policy no-packets/ });
    t.equal(carrier.stateOf(peer), null);
  }
  t.ok(await answered(kept), 'another class goes on');
  t.match(a.host.mesh.status(), [{ state: 'established', reconnects: 0 }]);
  t.equal(far.socket.streams[0]?.text, packet('x'), 'nothing has passed since');

  rule([]);
  for (const { carrier } of [near, far]) carrier.follow(new Set([alpha.node, beta.node]));
  for (const [{ carrier }, { host }] of [
    [near, a],
    [far, b],
  ] as const)
    carrier.channelsAre(host.mesh.status());
  await far.has(() => far.carrier.stateOf(alpha.node)?.peer?.wants === true);
  await near.socket.until(() => near.socket.streams.length === 2);
  near.socket.streams[1]?.socket.write(packet('y'));
  await far.socket.until(() => far.socket.streams[1]?.text === packet('y'));
  t.equal(near.carrier.denialOf(beta.node), null);
});
