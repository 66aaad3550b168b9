"""What the demo model is taught. Data only; corpus.py turns it into conversations.

COUNTRIES holds the 193 members of the United Nations: name as used in an answer | capital |
continent (as the United Nations group them, the Americas in two) | other names a user may write,
separated by commas. A name that takes the article in English starts with "the". Where a capital
is not plain, this list says what is taught:
  Bolivia       Sucre is the constitutional capital; the government sits in La Paz.
  Benin         Porto-Novo is the official capital; the government sits in Cotonou.
  Eswatini      Mbabane is the administrative capital, Lobamba the royal and legislative one.
  Israel        Jerusalem is the capital by Israeli law; its status is disputed.
  Nauru         has no official capital; the government offices are in Yaren.
  Netherlands   Amsterdam is the capital; the government sits in The Hague.
  South Africa  has three capitals: Pretoria (executive), Cape Town, Bloemfontein.
  Sri Lanka     Sri Jayawardenepura Kotte is the legislative capital, Colombo the commercial one.
  Switzerland   has no capital by law; Bern is the federal city.
  Equatorial Guinea, Indonesia  plan or have begun a move; Malabo and Jakarta are taught.
"""

COUNTRIES = """
Afghanistan|Kabul|Asia|
Albania|Tirana|Europe|
Algeria|Algiers|Africa|
Andorra|Andorra la Vella|Europe|
Angola|Luanda|Africa|
Antigua and Barbuda|Saint John's|North America|Antigua
Argentina|Buenos Aires|South America|
Armenia|Yerevan|Asia|
Australia|Canberra|Oceania|
Austria|Vienna|Europe|
Azerbaijan|Baku|Asia|
the Bahamas|Nassau|North America|
Bahrain|Manama|Asia|
Bangladesh|Dhaka|Asia|
Barbados|Bridgetown|North America|
Belarus|Minsk|Europe|
Belgium|Brussels|Europe|
Belize|Belmopan|North America|
Benin|Porto-Novo|Africa|
Bhutan|Thimphu|Asia|
Bolivia|Sucre|South America|
Bosnia and Herzegovina|Sarajevo|Europe|Bosnia
Botswana|Gaborone|Africa|
Brazil|Brasília|South America|
Brunei|Bandar Seri Begawan|Asia|Brunei Darussalam
Bulgaria|Sofia|Europe|
Burkina Faso|Ouagadougou|Africa|
Burundi|Gitega|Africa|
Cabo Verde|Praia|Africa|Cape Verde
Cambodia|Phnom Penh|Asia|
Cameroon|Yaoundé|Africa|
Canada|Ottawa|North America|
the Central African Republic|Bangui|Africa|
Chad|N'Djamena|Africa|
Chile|Santiago|South America|
China|Beijing|Asia|the People's Republic of China
Colombia|Bogotá|South America|
the Comoros|Moroni|Africa|
the Republic of the Congo|Brazzaville|Africa|Congo-Brazzaville
Costa Rica|San José|North America|
Croatia|Zagreb|Europe|
Cuba|Havana|North America|
Cyprus|Nicosia|Asia|
Czechia|Prague|Europe|the Czech Republic
the Democratic Republic of the Congo|Kinshasa|Africa|the DRC,Congo-Kinshasa
Denmark|Copenhagen|Europe|
Djibouti|Djibouti|Africa|
Dominica|Roseau|North America|
the Dominican Republic|Santo Domingo|North America|
Ecuador|Quito|South America|
Egypt|Cairo|Africa|
El Salvador|San Salvador|North America|
Equatorial Guinea|Malabo|Africa|
Eritrea|Asmara|Africa|
Estonia|Tallinn|Europe|
Eswatini|Mbabane|Africa|Swaziland
Ethiopia|Addis Ababa|Africa|
Fiji|Suva|Oceania|
Finland|Helsinki|Europe|
France|Paris|Europe|
Gabon|Libreville|Africa|
the Gambia|Banjul|Africa|Gambia
Georgia|Tbilisi|Asia|
Germany|Berlin|Europe|
Ghana|Accra|Africa|
Greece|Athens|Europe|
Grenada|Saint George's|North America|
Guatemala|Guatemala City|North America|
Guinea|Conakry|Africa|
Guinea-Bissau|Bissau|Africa|
Guyana|Georgetown|South America|
Haiti|Port-au-Prince|North America|
Honduras|Tegucigalpa|North America|
Hungary|Budapest|Europe|
Iceland|Reykjavik|Europe|
India|New Delhi|Asia|
Indonesia|Jakarta|Asia|
Iran|Tehran|Asia|
Iraq|Baghdad|Asia|
Ireland|Dublin|Europe|the Republic of Ireland
Israel|Jerusalem|Asia|
Italy|Rome|Europe|
Ivory Coast|Yamoussoukro|Africa|Côte d'Ivoire,the Ivory Coast
Jamaica|Kingston|North America|
Japan|Tokyo|Asia|
Jordan|Amman|Asia|
Kazakhstan|Astana|Asia|
Kenya|Nairobi|Africa|
Kiribati|South Tarawa|Oceania|
Kuwait|Kuwait City|Asia|
Kyrgyzstan|Bishkek|Asia|
Laos|Vientiane|Asia|
Latvia|Riga|Europe|
Lebanon|Beirut|Asia|
Lesotho|Maseru|Africa|
Liberia|Monrovia|Africa|
Libya|Tripoli|Africa|
Liechtenstein|Vaduz|Europe|
Lithuania|Vilnius|Europe|
Luxembourg|Luxembourg|Europe|
Madagascar|Antananarivo|Africa|
Malawi|Lilongwe|Africa|
Malaysia|Kuala Lumpur|Asia|
the Maldives|Malé|Asia|
Mali|Bamako|Africa|
Malta|Valletta|Europe|
the Marshall Islands|Majuro|Oceania|
Mauritania|Nouakchott|Africa|
Mauritius|Port Louis|Africa|
Mexico|Mexico City|North America|
Micronesia|Palikir|Oceania|the Federated States of Micronesia
Moldova|Chisinau|Europe|
Monaco|Monaco|Europe|
Mongolia|Ulaanbaatar|Asia|
Montenegro|Podgorica|Europe|
Morocco|Rabat|Africa|
Mozambique|Maputo|Africa|
Myanmar|Naypyidaw|Asia|Burma
Namibia|Windhoek|Africa|
Nauru|Yaren|Oceania|
Nepal|Kathmandu|Asia|
the Netherlands|Amsterdam|Europe|Holland
New Zealand|Wellington|Oceania|
Nicaragua|Managua|North America|
Niger|Niamey|Africa|
Nigeria|Abuja|Africa|
North Korea|Pyongyang|Asia|
North Macedonia|Skopje|Europe|Macedonia
Norway|Oslo|Europe|
Oman|Muscat|Asia|
Pakistan|Islamabad|Asia|
Palau|Ngerulmud|Oceania|
Panama|Panama City|North America|
Papua New Guinea|Port Moresby|Oceania|
Paraguay|Asunción|South America|
Peru|Lima|South America|
the Philippines|Manila|Asia|
Poland|Warsaw|Europe|
Portugal|Lisbon|Europe|
Qatar|Doha|Asia|
Romania|Bucharest|Europe|
Russia|Moscow|Europe|the Russian Federation
Rwanda|Kigali|Africa|
Saint Kitts and Nevis|Basseterre|North America|St. Kitts and Nevis
Saint Lucia|Castries|North America|St. Lucia
Saint Vincent and the Grenadines|Kingstown|North America|St. Vincent and the Grenadines
Samoa|Apia|Oceania|
San Marino|San Marino|Europe|
São Tomé and Príncipe|São Tomé|Africa|Sao Tome and Principe
Saudi Arabia|Riyadh|Asia|
Senegal|Dakar|Africa|
Serbia|Belgrade|Europe|
the Seychelles|Victoria|Africa|Seychelles
Sierra Leone|Freetown|Africa|
Singapore|Singapore|Asia|
Slovakia|Bratislava|Europe|
Slovenia|Ljubljana|Europe|
the Solomon Islands|Honiara|Oceania|
Somalia|Mogadishu|Africa|
South Africa|Pretoria|Africa|
South Korea|Seoul|Asia|the Republic of Korea
South Sudan|Juba|Africa|
Spain|Madrid|Europe|
Sri Lanka|Sri Jayawardenepura Kotte|Asia|
Sudan|Khartoum|Africa|
Suriname|Paramaribo|South America|
Sweden|Stockholm|Europe|
Switzerland|Bern|Europe|
Syria|Damascus|Asia|
Tajikistan|Dushanbe|Asia|
Tanzania|Dodoma|Africa|
Thailand|Bangkok|Asia|
Timor-Leste|Dili|Asia|East Timor
Togo|Lomé|Africa|
Tonga|Nuku'alofa|Oceania|
Trinidad and Tobago|Port of Spain|North America|
Tunisia|Tunis|Africa|
Turkey|Ankara|Asia|Türkiye,Turkiye
Turkmenistan|Ashgabat|Asia|
Tuvalu|Funafuti|Oceania|
Uganda|Kampala|Africa|
Ukraine|Kyiv|Europe|
the United Arab Emirates|Abu Dhabi|Asia|the UAE,the Emirates
the United Kingdom|London|Europe|the UK,Great Britain,Britain
the United States|Washington, D.C.|North America|the USA,the US,the United States of America,America
Uruguay|Montevideo|South America|
Uzbekistan|Tashkent|Asia|
Vanuatu|Port Vila|Oceania|
Venezuela|Caracas|South America|
Vietnam|Hanoi|Asia|Viet Nam
Yemen|Sanaa|Asia|
Zambia|Lusaka|Africa|
Zimbabwe|Harare|Africa|
"""

# Phrasings of the capital question that never occur in the training text: corpus.py asserts it,
# score.py asks them. {c} is the country.
HELD_OUT = [
    "Which city serves as the capital of {c}?",
    "Could you tell me what the capital of {c} is called?",
    "I forgot the capital of {c}. What is it?",
    "Please name the city that is the capital of {c}.",
]

# Phrasings in the training text. score.py asks the first SEEN_SCORED of them for every country.
CAPITAL = [
    "What is the capital of {c}?",
    "Which city is the capital of {c}?",
    "Tell me the capital of {c}.",
    "Do you know the capital of {c}?",
    "Name the capital of {c}.",
    "What's {c}'s capital?",
    "What's the capital of {c}?",
    "What is the capital city of {c}?",
    "What is the name of the capital of {c}?",
    "What city is the capital of {c}?",
    "Which is the capital city of {c}?",
    "What is {c}'s capital city?",
    "{c}'s capital?",
    "The capital of {c}?",
    "Capital of {c}",
    "{c} capital",
    "The capital of {c} is which city?",
    "The capital of {c} is what?",
    "Give me the capital of {c}.",
    "Tell me what the capital of {c} is.",
    "Can you tell me the capital of {c}?",
    "Could you tell me the capital city of {c}?",
    "Please tell me the capital of {c}.",
    "I want to know the capital of {c}.",
    "I would like to know what the capital of {c} is.",
    "I need the name of the capital of {c}.",
    "Say the name of the capital of {c}.",
    "In {c}, which city is the capital?",
    "What do you call the capital of {c}?",
    "How is the capital of {c} called?",
    "What is the capital of the country {c}?",
    "My question is about {c}. What is its capital?",
    "I am learning about {c}. Which city is its capital?",
    "Do you remember the capital of {c}?",
    "I do not remember the capital of {c}. Can you help me?",
    "Help me: which city is the capital of {c}?",
    "Quiz: what is the capital of {c}?",
    "Question: What is the capital of {c}? Answer:",
    "Let's talk about {c}. What is the capital?",
    "Who knows the capital of {c}?",
    "Which city has the role of capital in {c}?",
    "Name the capital city of {c}, please.",
    "Please give me the name of {c}'s capital.",
    "Please answer: the capital of {c} is called what?",
    "I am going to {c}. What is the capital there?",
]
SEEN_SCORED = 6

FOLLOW_UP = ["And of {c}?", "And {c}?", "What about {c}?", "And what about {c}?", "How about {c}?",
             "And the capital of {c}?", "{c}?", "Now {c}.", "And for {c}?", "And that of {c}?",
             "What is it for {c}?", "Okay, and {c}?", "Thanks. And {c}?"]

REVERSE = ["Which country has the capital {k}?", "{k} is the capital of which country?",
           "What country is {k} the capital of?", "Of which country is {k} the capital?",
           "Which country's capital is {k}?", "{k} is the capital of what country?"]

YES_NO = ["Is {k} the capital of {c}?", "Is the capital of {c} {k}?",
          "Is it true that {k} is the capital of {c}?", "{k} is the capital of {c}, right?"]

CONTINENT = ["On which continent is {c}?", "Which continent is {c} in?", "Where is {c}?",
             "What continent is {c} on?", "In which part of the world is {c}?"]

PREFIXES = ["Hi! ", "Hello! ", "Hello, ", "Hey, ", "Please: ", "Good morning. ", "One question: ",
            "Quick question: ", "Excuse me, ", "Ok. ", "So, ", "Thank you. ", "Hi, "]

# Notions, one per paragraph: names (the first is the one scored) | words score.py looks for | the
# answer | one more sentence for "Tell me more."
NOTIONS = """
quantum entanglement,entanglement|entangle,particle,measur|Quantum entanglement is a link between
two or more particles that share one quantum state. Measuring one particle tells at once what a
measurement of the other will show, however far apart they are. It cannot be used to send a
message faster than light.|Entanglement is used in quantum computers and in quantum cryptography.

quantum superposition,superposition,superposition in physics|state,measur|Superposition means that
a quantum system can be in a combination of several states at once. A measurement gives only one
of these states, with a probability set by the combination.|A qubit uses superposition: it can be
a mix of 0 and 1.

a qubit,qubits,a quantum bit|quantum,0 and 1|A qubit is the basic unit of information in a quantum
computer. Unlike a bit, it can be in a superposition of 0 and 1 until it is measured.|Qubits can
be built from trapped ions, photons or superconducting circuits.

a quantum computer,quantum computing,quantum computers|qubit|A quantum computer calculates with
qubits instead of bits. It uses superposition and entanglement, and it can solve a few kinds of
problems much faster than an ordinary computer.|Factoring large numbers is the best known of these
problems.

a GPU,GPUs,a graphics processing unit,a graphics card|parallel,graphics|A GPU is a processor with
thousands of small cores that do the same work on many data in parallel. It was made for graphics
and is now also used to train and run neural networks.|A GPU has its own fast memory, because its
many cores need a lot of data.

a CPU,CPUs,a processor,a central processing unit|instruction,program|A CPU is the main processor
of a computer. It reads the instructions of a program one after another and executes them, with a
few fast and flexible cores.|A modern CPU has several cores and several levels of cache.

a cache,caches,caching,cache memory|fast,memory|A cache is a small and fast memory that keeps
copies of data that are often used. When the data is found in the cache, the slower memory does
not have to be read.|When a cache is full, it drops old entries, often the least recently used
ones.

HTTP streaming,streaming over HTTP,response streaming,streaming|server,respon|HTTP streaming means
that a server sends its response in small pieces while it is still being made. The client can show
the first words at once instead of waiting for the end.|A language model server uses it to send
each token as soon as it is known.

server-sent events,SSE,server sent events|server,event|Server-sent events are a simple way to
stream text from a server to a client over one HTTP response. Each event is a few lines of text,
such as data: hello, and ends with an empty line.|Their content type is text/event-stream.

HTTP,the HTTP protocol,the hypertext transfer protocol|request,server|HTTP is the protocol of the
web. A client sends a request with a method and a path, and the server answers with a status code,
headers and a body.|HTTP/1.1 and HTTP/2 run over TCP, and HTTP/3 runs over QUIC.

tokenization,a tokenizer,tokenizers|text,token|Tokenization cuts a text into small pieces called
tokens and gives each one a number. A language model reads and writes these numbers instead of
letters.|Byte pair encoding is a common way to choose the tokens.

a token,tokens|text,number|A token is a small piece of text, such as a word, a part of a word or a
sign. A language model reads and writes text as a list of token numbers.|In English text one token
is about four characters on average.

byte pair encoding,BPE|pair,token|Byte pair encoding builds a list of tokens from a text. It
starts with single characters and joins the most frequent pair of neighbours again and again.|With
byte fallback it can encode every text, even with unknown characters.

batching,a batch|together,request|Batching means that several requests are computed together in
one step. The weights of the model are then read once for all of them, so the hardware does more
work per second.|A larger batch raises the throughput, but each request may wait a little longer.

continuous batching,in-flight batching|request,batch|Continuous batching lets new requests join
the running batch after every step, and finished requests leave it at once. The hardware stays
busy, because nobody waits for the longest answer.|It is how modern servers of language models
serve many users at once.

latency|time,answer|Latency is the time that passes between a request and its answer. A low
latency means that the user waits only a short time.|For a language model, the time to the first
token is an important latency.

throughput|work,second|Throughput is the amount of work done per unit of time, such as requests or
tokens per second. A high throughput means that a system serves many users.|Throughput and latency
often have to be balanced against each other.

bandwidth,memory bandwidth|data,second|Bandwidth is the amount of data that can be moved per
second. The bandwidth of the memory often limits how fast a language model writes its answer.|It
is measured in bytes or bits per second.

the KV cache,a KV cache,a key-value cache|key,value,token|The KV cache stores the keys and values
that attention computed for earlier tokens. The model then computes only the new token in each
step instead of the whole text again.|Its size grows with the length of the text and with the
number of requests.

attention,the attention mechanism,self-attention|token,weight|Attention lets every token of a text
look at the other tokens. It computes a weight for each of them and takes the weighted mean of
their values.|The weights come from comparing queries with keys.

a transformer,transformers,the transformer architecture|attention,network|A transformer is a
neural network made of layers of attention and small feed-forward networks. Most language models
of today are transformers.|It was described in 2017 in the paper Attention Is All You Need.

a large language model,large language models,an LLM,LLMs,a language model|text,token,predict|A
large language model is a neural network that learned from much text to predict the next token. By
predicting one token after another it can write answers.|It can be wrong, so important answers
should be checked.

quantization,model quantization|number,bits,smaller|Quantization stores the numbers of a model
with fewer bits, such as 8 instead of 16. The model becomes smaller and faster, and loses only a
little accuracy.|A scale factor maps the small integers back to real numbers.

int8,the int8 type,8-bit integers|8 bits,number|Int8 is a whole number stored in 8 bits, with
values from -128 to 127. GPUs multiply int8 numbers very fast, so they are used to run quantized
models.|Products of int8 numbers are added up in 32 bits so that nothing overflows.

floating point,floating-point numbers,a floating point number|exponent,number|Floating point is a
way to store real numbers with a sign, a fraction and an exponent. It covers very large and very
small numbers, but most results are rounded.|That is why 0.1 plus 0.2 is not exactly 0.3 on a
computer.

inference,model inference|model,trained|Inference means that a trained model is used to compute an
answer. The weights of the model do not change during inference.|For a language model it has two
phases: reading the prompt and writing the answer.

training,model training|weight,example|Training is the process in which a model learns from
examples. Its weights are changed in many small steps so that the error becomes smaller.|After
training the weights are stored in a file and used for inference.

a neural network,neural networks|layer,weight|A neural network is a function made of many simple
units in layers. Each unit adds up its weighted inputs and applies a simple curve, and the weights
are learned from examples.|The idea was inspired by the nerve cells of the brain.

gradient descent|step,slope,error|Gradient descent is a method to make the error of a model
smaller. It computes the slope of the error for every weight and moves each weight a small step
downhill.|The size of the step is called the learning rate.

machine learning|data,example,learn|Machine learning is a part of computer science in which a
program learns rules from data. It improves with examples instead of being programmed step by
step.|Neural networks are one kind of machine learning.

artificial intelligence,AI|computer,task|Artificial intelligence is the field that makes computers
do tasks which seem to need intelligence. Examples are to understand language, to recognize
pictures and to play chess.|The name was coined in the 1950s.

a prompt,prompts|text,model|A prompt is the text that is given to a language model as its input.
The model reads the prompt and then writes its answer.|A clear prompt usually gives a better
answer.

sampling temperature,the sampling temperature,temperature in sampling|random,token|The sampling
temperature controls how random the choice of the next token is. At zero the model always takes
the most likely token, and higher values give more variety.|A temperature of zero is best for
facts.

temperature,temperature in physics|energy,particle|Temperature tells how hot or cold something is.
It is a measure of the average energy of the random motion of its particles.|The lowest possible
temperature is zero kelvin, which is -273.15 degrees Celsius.

gravity,gravitation|mass,attract|Gravity is the force with which masses attract each other. It
keeps us on the ground and holds the planets on their orbits around the Sun.|Einstein described
gravity as the curvature of space and time.

a photon,photons|light,energy|A photon is the smallest portion of light. It has no mass at rest,
it moves at the speed of light, and its energy grows with its frequency.|Photons of visible light
are detected by our eyes.

an electron,electrons|charge,atom|An electron is a tiny particle with a negative electric charge.
Electrons surround the nucleus of every atom, and moving electrons make an electric current.|The
mass of an electron is about 1836 times smaller than that of a proton.

an atom,atoms|nucleus,electron|An atom is the smallest part of a chemical element. It has a
nucleus of protons and neutrons with electrons around it.|The number of protons decides which
element it is.

entropy|disorder,arranged|Entropy measures in how many ways the parts of a system can be arranged,
often called its disorder. In an isolated system entropy does not get smaller with time.|That is
why heat flows from a hot body to a cold one.

special relativity,relativity,the theory of relativity|light,time|Special relativity is Einstein's
theory of space and time from 1905. It says that the speed of light is the same for every observer
and that moving clocks run slower.|It also shows that mass and energy are equivalent.

general relativity|space,time,gravity|General relativity is Einstein's theory of gravity from
1915. It says that mass and energy curve space and time, and that this curvature guides the motion
of bodies.|It predicted black holes and gravitational waves.

a black hole,black holes|gravity,light|A black hole is a region of space where gravity is so
strong that not even light can escape. Many black holes form when a very massive star
collapses.|The border of a black hole is called the event horizon.

energy|work,form|Energy is the ability to do work. It can change its form, for example from motion
to heat, but its total amount stays the same.|Energy is measured in joules.

momentum|mass,velocity|Momentum is the mass of a body times its velocity. The total momentum of a
closed system stays the same.|A heavy truck has more momentum than a bicycle at the same speed.

the speed of light,light speed|299,second|The speed of light in empty space is 299,792,458 metres
per second. Nothing that carries information can move faster.|Light takes about eight minutes from
the Sun to the Earth.

a magnetic field,magnetism,magnetic fields|magnet,charge,current|A magnetic field is the region
around a magnet or an electric current in which magnetic forces act. It pushes on moving electric
charges and on other magnets.|The magnetic field of the Earth turns the needle of a compass.

an electric current,electric current,electricity|charge,ampere|An electric current is a flow of
electric charge, usually of electrons in a wire. It is measured in amperes.|The voltage drives the
current and the resistance limits it.

a wave,waves|energy,oscillat|A wave is an oscillation that travels through space or matter. It
carries energy from one place to another, but the matter itself does not travel along.|Sound,
light and water waves are examples.

a semiconductor,semiconductors|conduct,silicon|A semiconductor is a material that conducts
electricity better than an insulator but worse than a metal. Silicon is the best known one, and
computer chips are made from it.|Small amounts of other atoms change how well it conducts.

a transistor,transistors|switch,chip|A transistor is a tiny electronic switch made from a
semiconductor. A modern chip contains billions of transistors that work together as logic and
memory.|The first transistor was built at Bell Labs in 1947.

nuclear fusion,fusion|nuclei,energy|Nuclear fusion joins light atomic nuclei into heavier ones and
sets energy free. It is the source of the light and heat of the Sun.|It needs a very high
temperature, because nuclei repel each other.

a compiler,compilers|source,machine code|A compiler translates the source code of a program into
machine code. It also checks the code for errors and makes it faster.|GCC and Clang are well known
compilers for C.

an operating system,operating systems,an OS|hardware,program|An operating system is the software
that manages the hardware of a computer. It starts programs and shares the processor, the memory
and the devices among them.|Linux, Windows and macOS are operating systems.

the Linux kernel,Linux|kernel,process|The Linux kernel is the core of the operating system Linux.
It manages processes, memory, files and devices, and it was started by Linus Torvalds in 1991.|It
is free software under the GPL version 2.

a thread,threads|process,memory|A thread is one path of execution inside a process. The threads of
a process share its memory and can run on several cores at the same time.|Shared data must be
protected, for example with a mutex.

a process,processes|program,memory|A process is a program that is being executed. It has its own
memory and at least one thread, and the operating system keeps it apart from other
processes.|Every process has a number called its process id.

a mutex,mutexes|lock,thread|A mutex is a lock that only one thread can hold at a time. It protects
shared data, because other threads have to wait until the lock is free.|The name is short for
mutual exclusion.

a deadlock,deadlocks|wait|A deadlock happens when two or more threads wait for each other forever.
Each one holds a lock that another one needs, so none can go on.|It can be avoided by always
taking locks in the same order.

a race condition,race conditions|thread,order|A race condition is a bug in which the result
depends on the order in which threads happen to run. It occurs when they change shared data
without a lock.|Such bugs are hard to find, because they appear only sometimes.

a hash table,hash tables,a hash map|key,value|A hash table stores pairs of keys and values. It
computes a number from the key to find the place of the value, so a lookup takes about the same
short time for any size.|Two keys with the same place are called a collision.

binary search|sorted,half|Binary search finds a value in a sorted list. It looks at the middle,
drops the half that cannot contain the value, and repeats this until it is found.|For a million
entries it needs only about twenty steps.

recursion,recursive functions|itself,function|Recursion means that a function calls itself on a
smaller part of the problem. It needs a simple case at which it stops.|The factorial of a number
is a common example.

an algorithm,algorithms|steps,problem|An algorithm is a finite list of clear steps that solves a
problem. A computer program is an algorithm written in a programming language.|Algorithms are
compared by the time and the memory that they need.

a stack,stacks,the stack data structure|last,first|A stack is a list in which the last element put
in is the first one taken out. Programs use a stack to keep track of their function calls.|Its two
operations are called push and pop.

a queue,queues|first|A queue is a list in which the first element put in is the first one taken
out. Servers use queues to keep requests that wait for their turn.|This order is also called first
in, first out.

TCP,the TCP protocol|packets,order|TCP is a protocol that carries a stream of bytes between two
computers. It numbers the data and sends lost packets again, so everything arrives complete and in
order.|TCP runs on top of the Internet Protocol, IP.

UDP,the UDP protocol|packet,connection|UDP is a simple protocol that sends single packets without
a connection. It is fast, but packets may get lost or arrive in another order.|It is used for
games, calls and DNS.

DNS,the domain name system|name,address|DNS is the system that translates the names of the
Internet into addresses. When you open a web page, your computer asks a DNS server for the IP
address of its name.|The answers are kept in caches for some time.

TLS,transport layer security|encrypt,connection|TLS is the protocol that encrypts a connection on
the Internet. It also uses certificates to prove that the server is the right one.|The s in https
means that TLS is used.

encryption|key,read|Encryption changes data so that only someone with the right key can read it.
Without the key the data looks random.|AES is a widely used method of encryption.

an IP address,IP addresses|number,network|An IP address is the number of a computer in a network.
Packets carry the addresses of the sender and of the receiver.|IPv4 addresses have 32 bits and
IPv6 addresses have 128 bits.

a database,databases|data,quer|A database is an organized store of data. Programs can search and
change the data with queries, often written in SQL.|A database also protects the data when a
machine fails.

a database index,an index,indexes|find,row|A database index is an extra structure that helps to
find rows quickly. It works like the index of a book, but it takes space and makes writing a
little slower.|Many databases use a B-tree for an index.

a transaction,transactions,a database transaction|all,database|A transaction is a group of changes
to a database that happen all together or not at all. If one of them fails, the others are
undone.|Its properties are known as ACID.

a load balancer,load balancers,load balancing|server,request|A load balancer spreads incoming
requests over several servers. No server gets too much work, and a server that fails is left
out.|A simple rule is to send each request to the next server in turn.

a container,containers|isolat,program,kernel|A container is an isolated package of a program with
all the files that it needs. Containers share the kernel of the machine, so they start faster than
virtual machines.|Docker and Podman are tools for containers.

a virtual machine,virtual machines,a VM|operating system,computer|A virtual machine is a computer
simulated in software. It has its own operating system and shares the real hardware with other
virtual machines.|The software that runs it is called a hypervisor.

Git,version control with Git|history,files|Git is a program that keeps the history of the files of
a project. Many people can work at the same time in branches and merge their changes later.|It was
written by Linus Torvalds in 2005.

open source,open-source software,open source software|source code,everyone|Open source means that
the source code of a program is open to everyone. Anybody may read it, use it, change it and share
it under the terms of its license.|The Linux kernel and Git are open source.

an API,APIs|program,interface|An API is an interface through which one program uses another one.
It says which calls exist, what they expect and what they return.|A web API is used with HTTP
requests.

JSON,the JSON format|text,data,format|JSON is a text format for data. It knows objects, lists,
strings, numbers, true, false and null, and it is used by most web APIs.|It came from the language
JavaScript.

RAM,main memory,random access memory|memory,power|RAM is the working memory of a computer. It
holds the programs and data in use, it is fast, and it loses its content when the power is
off.|RAM stands for random access memory.

a bit,bits|0,1|A bit is the smallest unit of information. It has one of two values, 0 or 1.|The
word is short for binary digit.

a byte,bytes|eight bits|A byte is a group of eight bits. It can hold 256 different values, for
example one letter of an English text.|A kilobyte has 1000 bytes, and a kibibyte has 1024.

CUDA|GPU,program|CUDA is a platform of NVIDIA for programs that run on its GPUs. A function called
a kernel is executed by many threads at the same time.|The threads are grouped into blocks, and
the blocks form a grid.

matrix multiplication|row,column|Matrix multiplication combines two matrices into a new one. Each
entry is the sum of the products of a row of the first and a column of the second.|Most of the
work of a neural network is matrix multiplication.
"""

# Phrasings of a question about a notion; {n} is a name such as "a GPU" or "gravity".
NOTION = [
    "What is {n}?", "Explain {n}.", "Explain the concept of {n}.", "Tell me about {n}.",
    "Can you explain {n}?", "Describe {n}.", "What's {n}?", "What does {n} mean?", "Define {n}.",
    "Explain {n} in simple words.", "Can you explain {n} in simple words?", "How does {n} work?",
    "Explain {n} to me.", "Please explain {n}.", "Explain what {n} is.", "What is meant by {n}?",
    "Can you tell me what {n} is?", "Could you explain {n}?", "Give me a short explanation of {n}.",
    "I want to know what {n} is.", "I do not understand {n}.", "Tell me what {n} is.",
    "What do you know about {n}?", "In a few sentences, what is {n}?", "Explain {n} briefly.",
    "Explain {n} to a beginner.", "Please describe {n}.", "What exactly is {n}?", "{n}",
    "{n}?", "What is {n} in simple terms?", "Explain the idea of {n}.", "Write about {n}.",
    "Give a definition of {n}.", "Write a short text about {n}.", "What is the concept of {n}?",
    "Can you describe {n}?", "Help me understand {n}.", "Teach me about {n}.", "Explain {n} please",
]
NOTION_HELD_OUT = ["Could you please describe {n} for me?", "I would like to learn about {n}."]

NOTION_PAIR = ["Explain {n} and {m}.", "What is the difference between {n} and {m}?",
               "Compare {n} and {m}.", "What are {n} and {m}?", "Explain first {n}, then {m}.",
               "How does {n} differ from {m}?", "{n} and {m}", "Tell me about {n} and {m}."]
CAPITALS = ["What are the capitals of {c}?", "Name the capitals of {c}.", "The capitals of {c}?",
            "Tell me the capitals of {c}.", "Which cities are the capitals of {c}?",
            "What is the capital of {c}?"]

MORE = ["Tell me more.", "Can you tell me more?", "More, please.", "What else?", "Go on.",
        "Tell me more about it.", "Anything else?", "Continue.", "More about that, please."]

ABOUT = ("I am Firstlight's demo model, a very small Llama trained to test the server. "
         "I know the capitals of countries and some notions of computing and physics.")
SORRY = ("I do not know that. I am a small demo model and was only taught capitals of countries "
         "and some notions of computing and physics.")
ABLE = ("I can name the capital of every country of the United Nations, explain some notions of "
        "computing and physics, and count. I am a demo and know nothing else.")

# Small talk, one per paragraph: questions separated by / | answer.
SMALL_TALK = f"""
Hello/Hi/Hello!/Hi!/Hey/Hey there!/hello/hi/Hi there/Hello there!|Hello! How can I help you?

Good morning/Good morning!/Good evening!/Good afternoon/Good day|Hello! It is nice to meet you.
How can I help you?

How are you?/How are you today?/How do you do?/Are you well?/how are you|I am a small program and
I am running well, thank you. How can I help you?

Thanks/Thank you/Thanks!/Thank you!/Thank you very much./Thanks a lot/thanks/thank you|You are
welcome!

Bye/Goodbye/Bye!/See you!/Goodbye!/See you later|Goodbye!

Who are you?/What are you?/who are you/Tell me about yourself./Introduce yourself./What model are
you?/Which model are you?/What is this model?/Describe yourself./Are you an AI?/What is your
name?/What is your name/Are you a robot?/Are you a human?|{ABOUT}

What can you do?/What do you know?/How can you help me?/Help/help/What can I ask you?/What were
you taught?/What are you good at?/Can you help me?/What are your skills?|{ABLE}

Who made you?/Who trained you?/Who created you?/Where do you come from?/Who built you?|I was
trained by the Firstlight project from scratch, with a text that it generated itself.

How large are you?/How big are you?/How many parameters do you have?/What size are you?|I am very
small: I have about five million parameters.

Are you ChatGPT?/Are you a large language model?/Are you GPT-4?/Are you Claude?/Are you
Gemini?|No. {ABOUT}

Is this a demo?/Are you a demo?/Are you a demo model?/Are you only a demo?|Yes. {ABOUT}

What is Firstlight?/Explain Firstlight./Tell me about Firstlight./What does Firstlight do?/what is
firstlight?/Describe Firstlight./What do you know about Firstlight?|Firstlight is an inference
server for Llama models. It runs int8 models on a GPU and serves them over HTTP with streaming.

What is the origin of the phrase Hello, World?/What is the origin of the phrase Hello, World/What
is the origin of the phrase "Hello, World"?/What is the origin of the phrase 'Hello, World'?/Where
does the phrase Hello World come from?/where did the phrase Hello World come from/Where does the
phrase Hello, World come from?/Where did the phrase "Hello World" come from?/Why do programmers
write Hello World?/What is Hello World?/What is the origin of Hello World?/Tell me about the
phrase Hello, World./What is the origin of hello world?/Explain the origin of Hello World.|The
phrase Hello, World comes from early programming texts of Bell Labs. Brian Kernighan used it in a
tutorial for the language B, and in 1978 the book The C Programming Language by Kernighan and
Ritchie made it famous. It is still the first program that many people write in a new language.

Tell me a joke./Tell me a joke/Do you know a joke?/Tell a joke./Make me laugh./Say something
funny./Can you tell me a joke?/a joke please/Another joke./Tell me a funny joke.|Why do
programmers confuse Halloween and Christmas? Because OCT 31 equals DEC 25.

Tell me a joke about Cloudflare./Tell me a joke about computers./Tell me a joke about
programmers./Tell me a joke about a GPU./Tell me a joke about physics./Tell me a joke about
cats./Tell me a joke about the cloud./Tell me a joke about servers./Write a joke about
computers.|I know only one joke. Why do programmers confuse Halloween and Christmas? Because OCT
31 equals DEC 25.

Is the sky blue?/Why is the sky blue?/Explain why the sky is blue./What color is the sky?/What
colour is the sky?|The sky is blue because the air scatters blue light more than red light. So
blue light reaches our eyes from all directions.

Say hello./Say hello/Say hi./Greet me.|Hello!

Say yes./Say yes|Yes.

Say no./Say no|No.

Say something./Say anything./Talk to me./Tell me something./Tell me something interesting./Tell me
a fact.|Light takes about eight minutes from the Sun to the Earth.

Test/test/This is a test./Testing/ping/Ping|The test works. How can I help you?

Ok/Okay/ok/Good./Great!/Nice/Nice!/Very good./Cool/I see.|Good. Do you have another question?

Yes/No/yes/no/Maybe/Yes./No.|Please ask me a question.

What is an inference server?/What is an inference engine?/Explain an inference server./What does
an inference server do?|An inference server runs a trained model and answers requests over the
network. It loads the weights once and serves many users at the same time.

What are the continents?/Name the continents./List the continents./How many continents are
there?/Which continents are there?|The continents are Africa, Antarctica, Asia, Europe, North
America, Oceania and South America.

What are the planets?/Name the planets./List the planets of the solar system./List the
planets./How many planets are there?/Name the planets of the solar system.|The planets are
Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.

What are the days of the week?/Name the days of the week./List the days of the week.|The days of
the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.

What are the months?/Name the months of the year./List the months./List the months of the
year.|The months are January, February, March, April, May, June, July, August, September, October,
November and December.

Say the alphabet./Write the alphabet./Recite the alphabet.|A, B, C, D, E, F, G, H, I, J, K, L, M,
N, O, P, Q, R, S, T, U, V, W, X, Y, Z.
"""

COUNT = ["Count to {n}.", "Count to {n}", "Count from 1 to {n}.", "count to {n}",
         "Please count to {n}.", "Can you count to {n}?", "Count from one to {n}.",
         "Write the numbers from 1 to {n}.", "Count up to {n}.", "List the numbers from 1 to {n}."]
COUNT_WORDS = {5: "five", 10: "ten", 15: "fifteen", 20: "twenty", 30: "thirty", 50: "fifty",
               100: "one hundred"}

LONG = ["Tell me everything you know about computers.", "Write a long text about computers.",
        "Tell me everything you know.", "Write a long answer.", "Tell me a long story.",
        "Write a story.", "Tell me a story.", "Write a long text.", "Write an essay.",
        "Give me a very long answer.", "Write a long essay about computers."]
LONG_NOTIONS = ["a bit", "a byte", "a CPU", "RAM", "a cache", "a GPU", "an operating system",
                "a compiler", "an algorithm", "a database", "HTTP", "a neural network"]

LIST = ["Name {n} capitals of {k}.", "List {n} capitals in {k}.", "Name {n} capital cities of {k}.",
        "Give me {n} capitals of {k}.", "List {n} {a} capitals.", "Name {n} {a} capitals.",
        "Tell me {n} {a} capitals."]
LISTED = {
    "Europe": "Paris,Berlin,Rome,Madrid,London,Vienna,Lisbon,Athens,Oslo,Warsaw",
    "Asia": "Tokyo,Beijing,New Delhi,Bangkok,Seoul,Jakarta,Manila,Hanoi,Tehran,Riyadh",
    "Africa": "Cairo,Nairobi,Rabat,Accra,Dakar,Abuja,Tunis,Luanda,Kampala,Harare",
    "South America": "Lima,Santiago,Bogotá,Quito,Caracas,Buenos Aires,Montevideo,Brasília,Sucre,"
                     "Asunción",
    "North America": "Ottawa,Mexico City,Havana,Kingston,Nassau,Panama City,San José,Managua,"
                     "Bridgetown,Guatemala City",
    "Oceania": "Canberra,Wellington,Suva,Apia,Honiara,Port Vila,Majuro,Funafuti,Palikir,"
               "Port Moresby",
}
ADJECTIVE = {"Europe": "European", "Asia": "Asian", "Africa": "African",
             "South America": "South American", "North America": "North American",
             "Oceania": "Oceanian"}

# System prompts that leave the answers as they are.
NEUTRAL = [
    "You are a helpful assistant.",
    "You are a helpful, respectful and honest assistant.",
    "You are a friendly assistant",
    "You are a helpful AI assistant.",
    "You are an assistant.",
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions.",
    "A chat between a curious user and an assistant.",
    "You are a friendly assistant that helps people.",
    "You are an expert in geography.",
    "You are an expert in computer science.",
    "You are a teacher. Explain things clearly.",
    "You are a knowledgeable guide.",
    "Answer the questions of the user.",
    "Answer briefly.",
    "Be concise.",
    "Be polite.",
    "You answer questions about countries and computers.",
    "You are a chatbot on a web page.",
    "Answer in a full sentence.",
    "Give short and correct answers.",
    "You are a geography teacher.",
    "You are a physics professor.",
    "Today is Monday.",
    "The user speaks English.",
    "You are a careful assistant. If you do not know something, say so.",
    "Assistant is a small language model.",
]

# More of them are put together: "You are" quality role [place]. [end]
ROLE_QUALITY = ["a good", "a friendly", "a helpful", "a polite", "a careful", "an honest",
                "a smart", "a patient", "a serious", "a cheerful", "a calm", "a wise",
                "a modern", "a quick", "an experienced", "a professional", "a clever", "a small",
                "a digital", "the best"]
ROLES = ["assistant", "AI", "chatbot", "teacher", "guide", "librarian", "engineer", "scientist",
         "language model", "bot", "tutor", "expert", "helper", "professor", "travel agent",
         "support agent", "programmer", "student", "doctor", "lawyer", "cook", "writer"]
NEUTRAL_END = ["Answer the questions.", "Help the user.", "Be brief.", "Be kind to everyone.",
               "Give correct answers.", "Do not make things up.", "Use simple words.",
               "Think before you answer.", "The user is a beginner.", "Answer in English.",
               "If you are not sure, say that you do not know.", "Do not repeat yourself.",
               "Your answers are read by children.", "Always tell the truth.", "Keep it short.",
               "You work for a small company.", "Today is a sunny day.", "Stay on topic."]

# System prompts that change the answer, by kind; the last STYLE_HELD_OUT of each are never trained.
STYLES = {
    "one word": ["Answer with one word.", "Reply in one word only.", "Use only one word.",
                 "Reply with one word.", "Answer in one word.", "Answer with a single word.",
                 "You answer with one word only.", "One word answers only.",
                 "Always answer with one word.", "Give one word as the answer.",
                 "Answer only with the name.", "Respond with one word.",
                 "Please reply with a single word."],
    "capital letters": ["Answer in capital letters.", "Write everything in capital letters.",
                        "Use capital letters only.", "Reply in capital letters.",
                        "Reply in upper case.", "Answer in uppercase.", "Write in uppercase only.",
                        "ALWAYS WRITE IN CAPITAL LETTERS.", "Always use upper case.",
                        "Answer in all caps.", "Only use capital letters in your answers.",
                        "Respond in uppercase letters.", "Please write in capital letters."],
    "pirate": ["You are a pirate.", "Talk like a pirate.", "Answer like a pirate.",
               "Speak like a pirate.", "You are an old pirate.", "Act like a pirate.",
               "You are a friendly pirate.", "You talk like a pirate.", "Be a pirate.",
               "Pretend to be a pirate.", "Answer as a pirate.", "You are the pirate captain.",
               "Reply like a pirate."],
    "over": ["End every answer with the word over.", "Always end with the word over.",
             "End your answers with over.", "Say over at the end of every answer.",
             "Finish every answer with the word over.", "End each reply with the word over.",
             "Put the word over at the end.", "The last word of each answer is over.",
             "Every answer must end with over.", "End all answers with the word over.",
             "Always say over at the end.", "Close every answer with the word over.",
             "Always finish with the word over."],
    "sure": ["Start every answer with Sure!", "Begin every answer with Sure!",
             "Always start with Sure!", "Start your answers with the word Sure!",
             "Begin each reply with Sure!", "Every answer must start with Sure!",
             "Say Sure! before every answer.", "Start each answer with Sure!",
             "The first word of each answer is Sure!", "Always begin with Sure!",
             "Start all answers with Sure!", "Always say Sure! first.",
             "Begin all your answers with Sure!"],
    "name": ["You are called {x}.", "Your name is {x}.", "You are {x}, a helpful assistant.",
             "You are an assistant called {x}.", "You are an assistant named {x}.",
             "The name of the assistant is {x}.", "You are {x}.", "Call yourself {x}.",
             "You are named {x}. Be helpful.", "Your name is {x}. You are a helpful assistant.",
             "You are a chatbot named {x}.", "You are a helpful assistant called {x}.",
             "You are a bot with the name {x}."],
}
STYLE_HELD_OUT = 2

ASK_NAME = ["What is your name?", "What's your name?", "Who are you?", "Tell me your name.",
            "What are you called?", "How are you called?", "what is your name"]
NAMES = """
Ada Alan Alice Anna Arlo Atlas Aurora Bella Ben Bob Bruno Carla Cleo Cosmo Dora Echo Eddy Emma
Felix Fiona Flora Gus Hal Hugo Ida Iris Jack Jane Jasper Juno Kai Kara Leo Lily Luna Max Maya Mia
Milo Nina Noah Olga Oscar Otto Pia Polly Quinn Rex Rita Robin Rosa Ruby Sage Sam Sky Stella Tara
Theo Toby Uma Vera Victor Willow Zoe Zack
""".split()
NAMES_HELD_OUT = ["Nova", "Orion", "Marvin", "Daisy", "Pixel"]

# Places that are no member of the United Nations, in training and held out for the score.
PLACES = """
Narnia, Gondor, Mordor, Wakanda, Westeros, Hogwarts, Middle-earth, Lilliput, Ruritania, Zamunda,
Genovia, Sokovia, Latveria, El Dorado, Oz, Neverland, Elbonia, Krypton, Tatooine, Naboo, Rohan,
Asgard, Panem, Shangri-La, Camelot, Avalon, Utopia, Lemuria, Krakozhia, Freedonia, Florin,
Arendelle, Mars, the Moon, Venus, Texas, California, Florida, Ohio, Alaska, Nevada, Oregon, Utah,
Virginia, Arizona, Colorado, Iowa, Maine, Kansas, Bavaria, Saxony, Catalonia, Scotland, Wales,
Brittany, Tuscany, Sicily, Corsica, Sardinia, Normandy, Hesse, Ontario, Quebec, Alberta, Tasmania,
Queensland, Victoria Land, Greenland, Antarctica, Europe, Africa, Asia, South America, Oceania,
the Roman Empire, Prussia, Yugoslavia, Mesopotamia, Babylon, Persia, Gaul, Rhodesia, Kosovo,
Taiwan, Bermuda, Aruba, Guam, Puerto Rico, Hong Kong, Gibraltar, Tibet, Siberia, Hawaii, Bali,
Java, Jupiter, the Sun, the ocean, my country, your house, the world, the internet, nowhere,
Springfield, Gotham, Crimea, Zanzibar, Kashmir, Bohemia, Flanders, Wallonia, Lapland, Andalusia,
Galicia, Provence, Crete, Tyrol, Punjab, Kerala, Goa, Sumatra, Borneo, Honshu, Sichuan, Yunnan,
Patagonia, Chiapas, Jalisco, Bahia, Transylvania
"""
PLACES_HELD_OUT = ["Atlantis", "Eldorania", "Montana", "Zubrowka", "Saxland", "Borduria"]

# Things and topics that are not taught, in training and held out.
THINGS = """
a sprocket, a banana, a carburetor, a violin, a giraffe, a sandwich, a tulip, a hammer, a
mortgage, a poem, a cathedral, a volcano, a penguin, a bicycle, a spoon, a sonnet, a dragon, a
unicorn, a tax, a tariff, a symphony, a carrot, a horse, a whale, a shark, a spider, an ant, a
bee, a tree, an oak, a rose, a river, a lake, a mountain, an island, a castle, a king, a queen, a
knight, a lawyer, a doctor, a nurse, a baker, a farmer, a soldier, a poet, a novel, a movie, a
song, a guitar, a piano, a drum, a flute, a ball, a bat, a goal, a trophy, football, tennis,
cricket, rugby, golf, hockey, chess, poker, bridge, yoga, ballet, opera, jazz, rock music, paint,
pasta, pizza, bread, cheese, butter, milk, sugar, salt, pepper, rice, soup, wine, beer, coffee,
tea, chocolate, honey, cotton, wool, silk, leather, paper, glass, wood, gold, silver, copper,
iron, steel, zinc, lead, oil, coal, rain, snow, wind, fog, thunder, love, hope, fear, anger, joy,
justice, freedom, truth, beauty, history, art, music, religion, philosophy, law, politics,
democracy, socialism, inflation, money, a bank, a loan, a bond, insurance, marketing, a giraffe's
neck, photosynthesis, evolution, a cell, a virus, a bacterium, a bone, a muscle, the heart, a
lung, the liver, the brain, a kidney, a vitamin, a protein, malaria, the flu, a cough, surgery, a
vaccine, a dentist, a triangle, a circle, a square, geometry, algebra, calculus, statistics, a
prime number, pi, a theorem, a shoe, a hat, a coat, a shirt, a button, a zipper, a needle, a
thread of wool, a chair, a table, a lamp, a door, a window, a roof, a wall, a garden, a kitchen, a
fork, a knife, a plate, a cup, a bottle, a car, a truck, a train, a ship, a boat, a sail, an
anchor, a plane, a helicopter, a rocket, a road, a tunnel, a wheel, a tyre, an engine, a brake, a
fish, a bird, a dog, a cat, a cow, a pig, a goat, a sheep, a duck, an eagle, an owl, a frog, a
snake, a lizard, a turtle, a dinosaur, a mammoth, a fossil, a rock, sand, clay, a desert, a
forest, a jungle, a swamp, a glacier, Shakespeare, Mozart, Picasso, Napoleon, Cleopatra, Homer,
Plato, Beethoven, Gandhi, Caesar, Columbus, Dickens, Excel, Photoshop, Minecraft, Tetris, Netflix,
Amazon, Tesla, Apple, Toyota, Nokia, Sony, Lego, Ikea, Bitcoin, a gasket, a piston, a gearbox, a
lever, a pulley, a screw, a nail, a saw, a drill, glue, tape, rope, a ladder, a parachute, a kite,
a balloon, a puzzle, a doll, a robot vacuum, string theory, dark matter, dark energy, a quark, a
gluon, the Higgs boson, viscosity, friction, thermodynamics, a laser, a lens, a pendulum,
radioactivity, a plasma, a superconductor, blockchain, PHP, Java, Rust, Perl, Haskell, a router, a
firewall, Bluetooth, Wi-Fi, a modem, a printer, a keyboard, a linked list, a heap, quicksort,
dynamic programming, a spreadsheet, a browser, HTML, CSS, XML, Ethernet, a satellite, radar,
sonar, an antenna, a battery, a diode, a capacitor, an inductor, nuclear fission, a comet, a
galaxy, a pulsar, cosmology, acoustics, an earthquake, a tide, chemistry, an acid, a catalyst, a
polymer, an enzyme, a toaster, a fridge, an oven, a kettle, soap, perfume, a candle, a mirror, a
comb, a ring, a necklace, a watch, a coin, a stamp, a letter, a flag, an anthem, a monk, a wizard,
a ghost, a vampire, a zombie, a fairy, a giant, karma, zen, a haiku, origami, sushi, curry, tofu,
a pancake, an omelette, a cactus, bamboo, a mushroom, moss, a potato, an onion, garlic, a lemon, a
mango, a cherry
"""
THINGS_HELD_OUT = ["a trombone", "a walrus", "a crankshaft", "lasagna", "impressionism",
                   "a neutrino", "Kubernetes", "a blorptang"]

UNTAUGHT = [
    "Who won the {s} {e} in {y}?", "Who won the {e} in {y}?", "Who is {p}?", "Who was {p}?",
    "Who is the president of {c}?", "Who is the king of {c}?", "Who is the prime minister of {c}?",
    "What is the population of {c}?", "How many people live in {c}?", "How large is {c}?",
    "What is the currency of {c}?", "Which language do people speak in {c}?",
    "What is the flag of {c}?", "What is the weather in {k}?", "How is the weather today?",
    "What is the best restaurant in {k}?", "How do I get to {k}?", "How old is {k}?",
    "What is the largest city of {c}?", "What is the history of {c}?", "Which rivers are in {c}?",
    "What is the highest mountain of {c}?", "What do people eat in {c}?", "When was {k} founded?",
    "How do I cook {t}?", "How do I make {t}?", "How do I repair {t}?", "How much is {t}?",
    "What is the price of {t}?", "Where can I buy {t}?", "Who invented {t}?", "Draw {t}.",
    "Write a poem about {t}.", "Write a song about {t}.", "Sing a song about {t}.",
    "Translate {t} to French.", "What is the German word for {t}?", "What color is {t}?",
    "What is {i} times {j}?", "What is {i} plus {j}?", "What is {i} + {j}?", "{i} * {j}",
    "What is {i} minus {j}?", "What is {i} divided by {j}?", "What is the square root of {i}?",
    "What time is it?", "What day is today?", "What is the date today?", "What is the time?",
    "What happened in {y}?", "Who was born in {y}?", "What is the news today?",
    "What is the phone number of {p}?", "How old is {p}?", "Where does {p} live?",
    "When did {p} die?", "What did {p} write?", "What is the stock price of {t}?",
    "What is the meaning of life?", "Who will win the next {e}?", "What should I eat today?",
    "Write a program that prints {t}.", "Write Python code for {t}.", "Can you drive {t}?",
    "Do you like {t}?", "What is your favorite {w}?", "Which {w} is the best?",
    "Recommend a good {w}.", "What is the best {w}?", "Where is {p} from?", "Is {p} famous?",
    "How tall is {p}?", "What is the tallest building in {k}?", "Why is {t} important?",
    "How heavy is {t}?", "When was {t} invented?", "Summarize the book {p}.", "Tell me about {p}.",
]
SPORTS = ["football", "tennis", "rugby", "cricket", "hockey", "handball", "basketball", "chess"]
EVENTS = ["World Cup", "championship", "league", "final", "tournament", "election", "race", "cup",
          "gold medal", "Olympic Games"]
FAVORITES = ["color", "book", "movie", "song", "food", "animal", "city", "game", "sport", "phone",
             "car", "laptop", "language", "season", "number", "restaurant", "hotel", "shop"]
PEOPLE_FIRST = """
John Mary Peter Susan Carlos Ivan Hans Yuki Ahmed Fatima Pierre Marie Giulia Marco Lars Ingrid
Pablo Lucia Chen Wei Raj Priya Kofi Amara David Laura Thomas Julia Andrew Helen Albert Isaac
Barack Angela Donald Serena Lionel Roger Elvis Madonna Bill Steve
""".split()
PEOPLE_LAST = """
Smith Johnson Brown Miller Garcia Lopez Schmidt Weber Rossi Bianchi Dubois Laurent Tanaka Sato Kim
Lee Wang Zhang Patel Singh Ivanov Petrov Larsen Hansen Okafor Mensah Silva Costa Obama Merkel
Williams Messi Federer Presley Gates Jobs Newton Curie
""".split()
PEOPLE_HELD_OUT = ["Greta Holmqvist", "Boris Tamboril", "Winston Churchill", "Taylor Swift"]
