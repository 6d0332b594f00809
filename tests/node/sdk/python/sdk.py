"""A program as users write it: it gets credentials from the official Python SDK by its default chain,
and tells what it got. Once, or every few seconds with an argument such as 2."""

import json
import sys
import time

from alibabacloud_credentials.client import Client


def get(client):
    try:
        got = client.get_credential()
    except Exception as error:  # whatever the SDK raises is the answer
        return {"error": str(error)}
    return {
        "accessKeyId": got.access_key_id,
        "accessKeySecret": got.access_key_secret,
        "securityToken": got.security_token,
        "provider": got.provider_name,
    }


client = Client()
print(json.dumps(get(client)), flush=True)
while len(sys.argv) > 1:
    time.sleep(float(sys.argv[1]))
    print(json.dumps(get(client)), flush=True)
