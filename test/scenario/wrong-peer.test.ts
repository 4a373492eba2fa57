/** Spec 15: wrong cluster, wrong node, expired are rejected, each with its code at the end that refuses and at the end that is refused. */
import t from 'tap';
import { DAY_MS, makeAuthority } from '../fixtures/certs.ts';
import { alpha, beta, codes, dial, isEstablished, lastError, nodeUri, overEach, startHost } from './hosts.ts';

overEach(t, 'a node of another cluster is rejected by the acceptor', async (t, transport, authority) => {
  const other = await makeAuthority('other');
  const foreign = await other.issue({ uris: [nodeUri({ ...alpha, cluster: 'other' })] });
  const a = await startHost(t, { self: alpha, authority: { ...authority, root: authority.root }, credentials: foreign, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  dial(a, b, beta);
  await b.until(() => codes(b.logs).includes('wrong_cluster'));
  await a.until((status) => lastError(status) === 'wrong_cluster');
  t.notOk(isEstablished(b.host.mesh.status()));
});

overEach(t, 'a peer that is not the node that was dialed is rejected by the dialer', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  dial(a, b, { ...beta, node: '0c0000000003' });
  await a.until((status) => lastError(status) === 'wrong_node');
  t.notOk(isEstablished(a.host.mesh.status()));
  t.notOk(isEstablished(b.host.mesh.status()));
});

overEach(t, 'an expired certificate is rejected', async (t, transport, authority) => {
  const now_ms = Date.now();
  const a = await startHost(t, { self: alpha, authority, leaf: { notBefore_ms: now_ms - 2 * DAY_MS, notAfter_ms: now_ms - DAY_MS }, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  dial(a, b, beta);
  await b.until(() => codes(b.logs).includes('certificate_invalid'));
  await a.until((status) => lastError(status) === 'certificate_invalid');
  t.notOk(isEstablished(b.host.mesh.status()));
});

overEach(t, 'a certificate that is not the recorded one is rejected', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, recorded: () => new Uint8Array(32), transport });
  dial(a, b, beta);
  await a.until((status) => lastError(status) === 'certificate_revoked');
  t.notOk(isEstablished(b.host.mesh.status()));
});
