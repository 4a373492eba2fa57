/** The node's local socket: the control routes and who this node is, only for the socket's owner. */
import { makeApi } from '../api/http.ts';
import { listenOnSocket } from '../api/local-socket.ts';
import { type Control, registerControl } from './control-routes.ts';

/** Listens until closed. @throws state_in_use, file_exists, argument_invalid, permission_denied */
export async function controlServer(socketPath: string, control: Control): Promise<{ close(): Promise<void> }> {
  const api = await makeApi({
    title: 'Selvedge node, local',
    routes: (scope) => {
      scope.get('/v1/status', async () => control.facts());
      registerControl(scope, control);
    },
  });
  await listenOnSocket(api, socketPath);
  return { close: () => api.close() };
}
