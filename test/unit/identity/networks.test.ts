import t from 'tap';
import { isPublic, Networks } from '../../../src/identity/networks.ts';

t.test('addresses of the internet are public; this host, private ones and those that carry another are not', async (t) => {
  const yes = ['1.1.1.1', '8.8.8.8', '172.15.0.1', '172.32.0.1', '100.63.255.255', '100.128.0.1', '2606:4700::1111', '2a00:1450::1', '2001:4860::8888'];
  const no = [
    ...['0.0.0.0', '10.1.2.3', '100.64.0.1', '127.0.0.1', '127.255.255.254', '169.254.169.254', '172.16.0.1', '172.31.255.255', '192.168.1.1', '198.18.0.1'],
    ...['203.0.113.1', '224.0.0.1', '255.255.255.255', '::', '::1', '::ffff:8.8.8.8', '::8.8.8.8', '64:ff9b::808:808', 'fc00::1', 'fd00:ec2::254', 'fe80::1'],
    ...['fe80::1%eth0', 'ff02::1', '2001::1', '2001:db8::1', '2002:7f00:1::', '3fff::1', '', 'localhost', '1.1.1', '1.1.1.1/8'],
  ];
  for (const address of yes) t.equal(isPublic(address), true, address);
  for (const address of no) t.equal(isPublic(address), false, address);
});

t.test('a set of networks holds what is in them', async (t) => {
  const set = new Networks(['10.1.0.0/16', 'fd00:ec2::254/128']);
  t.ok(set.has('10.1.255.255'));
  t.ok(set.has('fd00:ec2::254'));
  for (const address of ['10.2.0.0', 'fd00:ec2::255', 'localhost', '']) t.notOk(set.has(address), address);
  for (const wrong of ['10.0.0.0', '10.0.0.0/33', 'fd00::/129', 'localhost/8', '/8', '10.0.0.0/-1', '10.0.0/8'])
    t.throws(() => new Networks([wrong]), { code: 'argument_invalid' }, wrong);
});
