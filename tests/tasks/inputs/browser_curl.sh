# "Copy as cURL (bash)" of a browser: an apostrophe in the data makes it quote with $'...'
curl 'https://cloud.luchentech.com/api/instance/create' \
  -H 'accept: application/json, text/plain, */*' \
  -H 'accept-language: zh-CN,zh;q=0.9' \
  -H 'content-type: application/json' \
  -b 'lang=zh; AccessToken=header.payload.xxxx; theme=dark' \
  -H 'origin: https://cloud.luchentech.com' \
  -H 'user-agent: Mozilla/5.0 (X11; Linux x86_64)' \
  --data-raw $'{"name":"it\'s-\u8bad\u7ec3-\ud83d\ude80","imageId":"7a81788c-xxxx-xxxx-xxxx-2409e3c8150c","instanceTypeId":"c531be90-xxxx-xxxx-xxxx-59d3d911e29e","region":"fce31a0c-xxxx-xxxx-xxxx-41caa1bdd251","billing":{"chargeMode":"perDay","duration":3},"remoteStorages":[],"instanceConfiguration":{"enableCommonData":true,"enableDocker":false,"initScript":"echo \'hi\'\\nexit\u00210"},"nodePorts":[8080]}' \
  --compressed ;
