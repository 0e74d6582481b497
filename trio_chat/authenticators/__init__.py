"""Ready-made answers to "who is this?": what `serve_tcp` and its siblings take as `authenticate`.

`jwt` needs PyJWT, which comes with the extra ``jwt``; it is imported when `jwt` is called, not before.
"""

from .cookies import SignedCookie as SignedCookie
from .cookies import signed_cookie as signed_cookie
from .loopback import demo as demo
from .web_tokens import jwt as jwt
from .web_tokens import mint as mint
