// Command sdk is a program as users write it: it gets credentials from the official Go SDK by its
// default chain, and tells what it got. Once, or every few seconds with an argument such as "2s".
package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/aliyun/credentials-go/credentials"
)

type answer struct {
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	AccessKeySecret string `json:"accessKeySecret,omitempty"`
	SecurityToken   string `json:"securityToken,omitempty"`
	Provider        string `json:"provider,omitempty"`
	Error           string `json:"error,omitempty"`
}

func get(credential credentials.Credential) answer {
	got, err := credential.GetCredential()
	if err != nil {
		return answer{Error: err.Error()}
	}
	text := func(value *string) string {
		if value == nil {
			return ""
		}
		return *value
	}
	return answer{
		AccessKeyID:     text(got.AccessKeyId),
		AccessKeySecret: text(got.AccessKeySecret),
		SecurityToken:   text(got.SecurityToken),
		Provider:        text(got.ProviderName),
	}
}

func main() {
	credential, err := credentials.NewCredential(nil)
	if err != nil {
		panic(err)
	}
	lines := json.NewEncoder(os.Stdout)
	_ = lines.Encode(get(credential))
	if len(os.Args) > 1 {
		pause, err := time.ParseDuration(os.Args[1])
		if err != nil {
			panic(err)
		}
		for {
			time.Sleep(pause)
			_ = lines.Encode(get(credential))
		}
	}
}
