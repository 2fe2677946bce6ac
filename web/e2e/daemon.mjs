// The daemon as the tests see it beside the page: to know what it stored.

export function daemon(origin) {
  let token;
  async function call(method, path, body) {
    token ??= await session();
    const response = await fetch(`${origin}/api/v1${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : undefined };
  }
  // Of the page's origin, because others get no token.
  async function session() {
    const response = await fetch(`${origin}/api/v1/session`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Origin: origin },
      body: '{}',
    });
    return (await response.json()).token;
  }
  return {
    call,
    models: async () => (await call('GET', '/models')).body.models ?? [],
    chat: async (id) => (await call('GET', `/chats/${id}`)).body,
    message: async (chat, id) => (await call('GET', `/chats/${chat}`)).body.messages.find((m) => m.id === id),
  };
}
